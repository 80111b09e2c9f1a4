import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cameras import NAMES, make_camera, points_in_view

from pixloc_core.geometry import Camera, DistortionModel, distortion

# The first use of forward differentiation makes torch load its own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

# Cases without axial symmetry or with a fold in different places.
FOLDING = {
    DistortionModel.RADIAL: [(-0.2, 0.0), (-0.4, 0.05), (-0.1, -0.02), (0.1, -0.02)],
    DistortionModel.OPENCV: [
        (-0.4, 0.06, 2e-3, -1e-3),
        (-0.3, 0.0, 0.02, 0.01),
        (0.2, -0.1, 0, 0),
    ],
    DistortionModel.FULL_OPENCV: [
        (-0.3, 0.02, 1e-3, 1e-3, -0.01, 0.0, 0.0, 0.0),
        (0.1, 0.0, 0.0, 0.0, 0.0, 0.9, 0.4, 0.1),
    ],
    DistortionModel.FISHEYE: [(-0.2, 0.0, 0.0, 0.0), (0.1, -0.1, 0.0, -0.05)],
}
FOLDING_CASES = [(model, params) for model, sets in FOLDING.items() for params in sets]


def uv_of(camera: Camera, count: int = 200) -> torch.Tensor:
    points = points_in_view(camera, count)
    return points[:, :2] / points[:, 2:]


@pytest.mark.parametrize("name", NAMES)
def test_jacobian_is_the_derivative_in_every_model(name):
    camera = make_camera(name)
    uv = uv_of(camera)

    def distort_one(x):
        return distortion.distort(camera.model, camera.dist, x[None], camera.max_radius)[0][0]

    expected = torch.func.vmap(torch.func.jacfwd(distort_one))(uv)
    J = distortion.jacobian(camera.model, camera.dist, uv)
    # On the axis of a fisheye the derivative is taken a square root of epsilon beside it.
    torch.testing.assert_close(J, expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("index", [2, 7, 9, 10, 13])
def test_reference_numbers_are_reproduced(shared_dir, index):
    stored = np.load(shared_dir / "fixtures" / "a_camera.npz")
    ref = {key: stored[f"cam{index}_{key}"] for key in (
        "colmap_params", "project", "distorted", "J_distort"
    )}  # fmt: skip
    camera = Camera.from_colmap({"model": str(stored["models"][index]), "width": 640,
                                 "height": 480, "params": ref["colmap_params"]})  # fmt: skip
    uv = torch.from_numpy(ref["project"])
    found, _ = distortion.distort(camera.model, camera.dist, uv)
    np.testing.assert_allclose(found, ref["distorted"], rtol=1e-10, atol=1e-13)
    J = distortion.jacobian(camera.model, camera.dist, uv)
    np.testing.assert_allclose(J, ref["J_distort"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in NAMES if "FISHEYE" not in name])
def test_perspective_models_agree_with_opencv(name):
    camera = make_camera(name)
    uv = uv_of(camera)
    if camera.model is DistortionModel.RADIAL:
        camera = camera.with_model(DistortionModel.OPENCV)
    points = torch.nn.functional.pad(uv, (0, 1), value=1.0).numpy()
    coefficients = camera.dist.numpy() if camera.dist.numel() else np.zeros(4)
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), coefficients)
    found, inside = distortion.distort(camera.model, camera.dist, uv)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-12, atol=1e-12)
    assert inside.all()


@pytest.mark.parametrize("name", [name for name in NAMES if "FISHEYE" in name])
def test_fisheye_models_agree_with_opencv(name):
    camera = make_camera(name)
    uv = uv_of(camera)
    points = torch.nn.functional.pad(uv, (0, 1), value=1.0).numpy()[:, None]
    expected, _ = cv2.fisheye.projectPoints(
        points, np.zeros(3), np.zeros(3), np.eye(3), camera.dist.numpy()
    )
    found, _ = distortion.distort(camera.model, camera.dist, uv)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("k1", "k2", "limit_sq"),
    # True limits of r^2 where the limit of the reference is another one (or none).
    [
        (-0.2, 0.0, 5 / 3),
        (0.2, 0.0, np.inf),
        (-0.4, 0.05, 1.0734),
        (-0.1, -0.02, 2.0),
        (0.1, -0.02, 5.0),
        (-0.399431, 0.188924, np.inf),
    ],
)
def test_radial_limit_is_the_first_root_of_the_derivative(k1, k2, limit_sq):
    params = torch.tensor([k1, k2], dtype=torch.float64)
    radius = distortion.max_radius(DistortionModel.RADIAL, params).item()
    roots = np.roots([5 * k2, 3 * k1, 1])
    positive = [root.real for root in roots if abs(root.imag) < 1e-12 and root.real > 0]
    exact = min([*positive, distortion.RADIUS_CAP**2])
    assert radius**2 == pytest.approx(exact, rel=1e-8)
    assert exact == pytest.approx(min(limit_sq, distortion.RADIUS_CAP**2), rel=1e-4)


def test_the_fisheye_limit_is_the_first_root_in_the_angle():
    k = (0.1, -0.1, 0.0, -0.05)
    coefficients = np.zeros(9)
    coefficients[[8, 6, 4, 2, 0]] = 1, 3 * k[0], 5 * k[1], 7 * k[2], 9 * k[3]
    roots = np.roots(coefficients)
    exact = min(r.real for r in roots if abs(r.imag) < 1e-9 and r.real > 0)
    radius = distortion.max_radius(DistortionModel.FISHEYE, torch.tensor(k).double())
    assert radius.atan().item() == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize(("model", "params"), FOLDING_CASES)
def test_the_lens_is_one_to_one_up_to_the_limit_and_folds_soon_after(model, params):
    params = torch.tensor(params, dtype=torch.float64)
    radius = distortion.max_radius(model, params).item()
    azimuth = torch.linspace(0, 2 * torch.pi, 721, dtype=torch.float64)
    direction = torch.stack((azimuth.cos(), azimuth.sin()), -1)

    def smallest_stretch(radii):
        J = distortion.jacobian(model, params, radii[:, None, None] * direction)
        return torch.linalg.eigvalsh(J)[..., 0].amin(-1)

    within = torch.linspace(0, radius * (1 - 1e-6), 500, dtype=torch.float64)
    assert (smallest_stretch(within) > 0).all()
    beyond = torch.linspace(radius, 1.001 * radius, 200, dtype=torch.float64)
    assert (smallest_stretch(beyond) <= 0).any()


def test_rational_lenses_end_before_their_pole():
    params = torch.tensor([0, 0, 0, 0, 0, -0.5, 0, 0], dtype=torch.float64)
    radius = distortion.max_radius(DistortionModel.FULL_OPENCV, params)
    assert 1.40 < radius < 2**0.5
    uv = torch.stack((torch.linspace(0, 10, 100), torch.zeros(100)), -1).double()
    found, inside = distortion.distort(DistortionModel.FULL_OPENCV, params, uv)
    assert found.isfinite().all()
    assert (inside == (uv[:, 0] < radius)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_undistort_inverts_distort_over_the_whole_usable_disk(name, dtype, atol):
    camera = make_camera(name).to(dtype)
    uv = uv_of(make_camera(name), 500)
    uv = uv[(uv.norm(dim=-1) < 0.999 * camera.max_radius.double())].to(dtype)
    distorted, _ = distortion.distort(camera.model, camera.dist, uv)
    found, valid = distortion.undistort(camera.model, camera.dist, distorted)
    assert valid.all()
    torch.testing.assert_close(found, uv, rtol=0, atol=atol)


@settings(max_examples=40, deadline=None)
@given(
    radial=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.3, 0.3)),
    tangential=st.tuples(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02)),
)
def test_any_opencv_lens_can_be_inverted_up_to_its_limit(radial, tangential):
    params = torch.tensor([*radial, *tangential], dtype=torch.float64)
    model = DistortionModel.OPENCV
    reach = distortion.max_radius(model, params).clamp(max=2)
    azimuth, part = torch.meshgrid(
        torch.linspace(0, 6.2, 16), torch.linspace(0, 0.98, 12), indexing="ij"
    )
    uv = reach * part[..., None] * torch.stack((azimuth.cos(), azimuth.sin()), -1)
    uv = uv.double().flatten(0, 1)
    found, valid = distortion.undistort(model, params, distortion.distort(model, params, uv)[0])
    assert valid.all()
    torch.testing.assert_close(found, uv, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("model", "params"), FOLDING_CASES)
def test_undistort_refuses_what_the_lens_cannot_show(model, params):
    params = torch.tensor(params, dtype=torch.float64)
    radius = distortion.max_radius(model, params)
    far = torch.tensor([[1e4, 0.0], [-3e5, 1e5], [torch.nan, 0.0], [0.0, torch.inf]]).double()
    found, valid = distortion.undistort(model, params, far)
    assert found.isfinite().all()
    assert not valid[2:].any()
    assert (found[valid].norm(dim=-1) < radius).all()


@pytest.mark.parametrize("name", ["RADIAL", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE"])
def test_gradients_of_undistort_are_those_of_the_inverse_function(name):
    camera = make_camera(name)
    distorted = torch.tensor([[0.1, -0.2], [0.3, 0.25], [1e-3, 0.0]]).double().requires_grad_()
    params = camera.dist.clone().requires_grad_()

    def inverse(points, k):
        return distortion.undistort(camera.model, k, points, camera.max_radius)[0]

    assert torch.autograd.gradcheck(inverse, (distorted, params))


def test_batches_of_lenses_have_their_own_limits():
    params = torch.tensor([[-0.2, 0.0], [0.2, 0.0], [-0.4, 0.05]], dtype=torch.float64)
    together = distortion.max_radius(DistortionModel.RADIAL, params)
    alone = torch.stack([distortion.max_radius(DistortionModel.RADIAL, p) for p in params])
    torch.testing.assert_close(together, alone)
    uv = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    assert distortion.distort(DistortionModel.RADIAL, params, uv)[1].tolist() == [[0], [1], [0]]


@pytest.mark.parametrize("model", ["RADIAL", "OPENCV", "FULL_OPENCV"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_pinhole_camera_written_as_a_lens_still_sees_all_of_its_pixels(model, dtype):
    # As it comes to pass where cameras of several models are joined to one batch.
    params = [413.7, 417.8, 160.3, 119.1]
    camera = Camera.from_colmap(
        {"model": "PINHOLE", "width": 320, "height": 240, "params": params}
    )
    rows, columns = torch.meshgrid(torch.arange(240), torch.arange(320), indexing="ij")
    pixels = torch.stack((columns, rows), -1).reshape(-1, 2).to(dtype)
    rays, found = camera.to(dtype).image2world(pixels)
    lens_rays, lens_found = camera.with_model(DistortionModel[model]).to(dtype).image2world(pixels)
    assert found.all()
    assert lens_found.all()
    torch.testing.assert_close(lens_rays, rays, rtol=0, atol=1e-6)
