import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixloc_core.errors import ConfigError, ShapeError
from pixloc_core.geometry import inside, sample, sample_with_gradient
from pixloc_core.geometry.interpolation import make_stencil

MODES = ["linear", "linear_analytic", "cubic"]
few = settings(max_examples=40, deadline=None)


def random_map(height=12, width=15, channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(height, width, channels, generator=generator, dtype=torch.float64)


def random_points(count=60, margin=2.0, size=(15, 12), seed=1):
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return margin + unit * (torch.tensor(size) - 1 - 2 * margin)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_reference_numbers_are_reproduced_also_outside_the_map(shared_dir, mode):
    reference = np.load(shared_dir / "fixtures" / "d_interp.npz")
    map_ = torch.from_numpy(reference["tensor"]).movedim(0, -1).contiguous()
    points = torch.from_numpy(reference["pts"])
    assert not inside(points, (32, 24)).all()
    value, gradient = sample_with_gradient(map_, points, mode)
    np.testing.assert_allclose(value, reference[f"{mode}_value"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradient, reference[f"{mode}_grad"], rtol=0, atol=1e-13)
    # The reference widens its border by one pixel for the four taps of cubic.
    extra = 1 if mode == "cubic" else 0
    for pad in (0, 1, 4):
        expected = reference[f"{mode}_mask_pad{pad}"]
        assert (inside(points, (32, 24), pad + extra).numpy() == expected).all()

    value, gradient = sample_with_gradient(map_.float(), points.float(), mode)
    safe = inside(points, (32, 24), 1e-3).numpy()
    for found, name in ((value, "value"), (gradient, "grad")):
        expected = reference[f"{mode}_{name}_f32"][safe]
        np.testing.assert_allclose(found[safe], expected, rtol=0, atol=3e-5)


def test_reference_numbers_are_reproduced_in_batches(shared_dir):
    reference = np.load(shared_dir / "fixtures" / "d_interp.npz")
    maps = torch.from_numpy(reference["tensor_b"]).movedim(1, -1).contiguous()
    points = torch.from_numpy(reference["pts_b"])
    value, gradient = sample_with_gradient(maps, points)
    np.testing.assert_allclose(value, reference["linear_value_b"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradient, reference["linear_grad_b"], rtol=0, atol=1e-13)
    assert (inside(points, (32, 24), 1).numpy() == reference["linear_mask_b"]).all()


@pytest.mark.parametrize("mode", MODES)
@few
@given(coefficients=st.tuples(*[st.floats(-2, 2)] * 3))
def test_a_plane_is_reproduced_with_its_slope(mode, coefficients):
    a, b, c = coefficients
    y, x = torch.meshgrid(torch.arange(12).double(), torch.arange(15).double(), indexing="ij")
    map_ = (a + b * x + c * y)[..., None]
    points = random_points()
    value, gradient = sample_with_gradient(map_, points, mode)
    torch.testing.assert_close(value[:, 0], a + points @ torch.tensor([b, c], dtype=torch.float64))
    torch.testing.assert_close(
        gradient[:, 0], torch.tensor([b, c], dtype=torch.float64).expand(60, 2)
    )


@pytest.mark.parametrize("mode", MODES)
def test_pixels_are_reproduced_at_their_centres_up_to_the_border(mode):
    map_ = random_map()
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(15.0), indexing="ij")
    points = torch.stack((x, y), -1).double()
    torch.testing.assert_close(sample(map_, points.flatten(0, 1), mode), map_.flatten(0, 1))


def test_linear_gradient_is_the_central_difference_of_samples():
    map_, points = random_map(), random_points()
    _, gradient = sample_with_gradient(map_, points)
    for axis in range(2):
        step = torch.eye(2).double()[axis]
        expected = 0.5 * (sample(map_, points + step) - sample(map_, points - step))
        torch.testing.assert_close(gradient[..., axis], expected)


@pytest.mark.parametrize("mode", ["linear_analytic", "cubic"])
@pytest.mark.parametrize("margin", [2.0, 0.0])
def test_analytic_gradients_are_the_derivative_of_the_value(mode, margin):
    map_, points = random_map(), random_points(margin=margin).requires_grad_()
    value, gradient = sample_with_gradient(map_, points, mode)
    for channel in range(4):
        (expected,) = torch.autograd.grad(value[:, channel].sum(), points, retain_graph=True)
        torch.testing.assert_close(gradient[:, channel], expected)


@pytest.mark.parametrize("mode", MODES)
def test_values_and_gradients_can_be_trained_through(mode):
    map_ = random_map(6, 6, 2).requires_grad_()
    points = random_points(5, size=(6, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, p: sample_with_gradient(m, p, mode), (map_, points))


@pytest.mark.parametrize("mode", MODES)
def test_batches_equal_single_calls_and_a_shared_map_serves_many_hypotheses(mode):
    maps = torch.stack([random_map(seed=s) for s in range(3)])
    points = torch.stack([random_points(seed=s) for s in range(3)])
    value, gradient = sample_with_gradient(maps, points, mode)
    for i in range(3):
        alone = sample_with_gradient(maps[i], points[i], mode)
        torch.testing.assert_close(value[i], alone[0])
        torch.testing.assert_close(gradient[i], alone[1])
    shared = sample_with_gradient(maps[1], points, mode)
    torch.testing.assert_close(shared[0][2], sample(maps[1], points[2], mode))
    crossed = sample(maps[:, None], points, mode)
    assert crossed.shape == (3, 3, 60, 4)
    torch.testing.assert_close(crossed[2, 0], sample(maps[2], points[0], mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_single_precision(mode, dtype):
    map_ = random_map().to(dtype)
    points = random_points()
    value, gradient = sample_with_gradient(map_, points, mode)
    expected = sample_with_gradient(map_.float(), points, mode)
    assert value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize("mode", MODES)
def test_points_far_outside_and_not_a_number_give_finite_values_and_gradients(mode):
    far = [[1e30, 0], [-1e30, 5], [torch.nan, 3], [torch.inf, -torch.inf], [3, torch.nan]]
    points = torch.tensor(far, dtype=torch.float64, requires_grad=True)
    value, gradient = sample_with_gradient(random_map(), points, mode)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    (by_point,) = torch.autograd.grad(value.sum() + gradient.sum(), points)
    assert by_point.isfinite().all()
    if mode != "cubic":
        assert (value == 0).all()


def test_one_stencil_serves_features_and_confidence():
    map_, points = random_map(), random_points()
    confidence = map_[..., :1].contiguous()
    stencil = make_stencil(points, map_)
    torch.testing.assert_close(stencil.value(confidence), stencil.value(map_)[:, :1])
    torch.testing.assert_close(stencil.gradient(confidence), stencil.gradient(map_)[..., :1])
    with pytest.raises(ShapeError, match="has no gradient"):
        make_stencil(points, map_, gradient=False).gradient(map_)


def test_the_parts_of_the_gradient_are_contiguous():
    for part in sample_with_gradient(random_map(), random_points())[1].unbind(-1):
        assert part.is_contiguous()


def test_no_points_give_empty_results():
    value, gradient = sample_with_gradient(random_map(), torch.zeros(0, 2).double())
    assert value.shape == (0, 4)
    assert gradient.shape == (0, 4, 2)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"expected \(\*m, n, 2\) and \(\*m, h, w, c\)"):
        sample(random_map(), torch.zeros(5, 3))
    with pytest.raises(ShapeError, match=r"shapes \(5, 2\) and \(4, 5\)"):
        sample(torch.zeros(4, 5), torch.zeros(5, 2))
    with pytest.raises(ShapeError, match=r"shapes \(3,\), \(2,\) do not broadcast"):
        sample(torch.zeros(2, 4, 5, 1), torch.zeros(3, 6, 2))


def test_unknown_modes_are_named():
    with pytest.raises(ConfigError, match="mode is 'nearest', expected one of linear, linear_ana"):
        sample(random_map(), random_points(), "nearest")
