import numpy as np
import pycolmap
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cameras import NAMES, colmap_dict, make_camera, points_in_view

from pixloc_core.errors import ShapeError
from pixloc_core.geometry import Camera, DistortionModel

# The first use of forward differentiation makes torch load its own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
few = settings(max_examples=15, deadline=None)
factors = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3))


def numeric_limit_sq(camera: Camera) -> float:
    """Squared radius at which the image stops growing somewhere: a scan, not a formula."""
    k1, k2, p1, p2 = [*camera.dist.tolist(), 0, 0, 0, 0][:4]
    r = np.linspace(0, 4, 40001)
    worst = np.full_like(r[1:], np.inf)
    for azimuth in np.linspace(0, 2 * np.pi, 91):
        u, v = r * np.cos(azimuth), r * np.sin(azimuth)
        factor = 1 + k1 * r**2 + k2 * r**4 + 2 * (p1 * v + p2 * u)
        along = (u * factor + p2 * r**2) * np.cos(azimuth)
        along = along + (v * factor + p1 * r**2) * np.sin(azimuth)
        worst = np.minimum(worst, np.diff(along))
    folded = np.flatnonzero(worst <= 0)
    return r[folded[0]] ** 2 if len(folded) else np.inf


@pytest.mark.parametrize("index", range(14))
def test_reference_numbers_are_reproduced_where_the_lens_is_usable(shared_dir, index):
    stored = np.load(shared_dir / "fixtures" / "a_camera.npz")
    name = str(stored["models"][index])
    ref = {key: stored[f"cam{index}_{key}"] for key in (
        "colmap_params", "data", "scale0", "scale1", "crop", "project", "distorted", "J_distort",
        "world2image", "valid", "in_image", "J_world2image", "world2image_f32", "distort_valid",
    )}  # fmt: skip
    camera = Camera.from_colmap(
        {"model": name, "width": 640, "height": 480, "params": ref["colmap_params"]}
    )
    np.testing.assert_allclose(camera.data, ref["data"], rtol=1e-15)
    for key, factor in zip(("scale0", "scale1"), stored["scale_args"], strict=True):
        np.testing.assert_allclose(camera.scale(tuple(factor)).data[:6], ref[key][:6], rtol=1e-14)
    left, top, width, height = stored["crop_args"].tolist()
    cropped = camera.crop((left, top), (width, height))
    np.testing.assert_allclose(cropped.data[:6], ref["crop"][:6], rtol=1e-15)

    points = torch.from_numpy(stored["p3d"])
    points_px, J, valid = camera.project_with_jacobian(points)
    usable = camera.J_world2image(points)[1].numpy()
    np.testing.assert_allclose(points_px[usable], ref["world2image"][usable], rtol=1e-12)
    np.testing.assert_allclose(J[usable], ref["J_world2image"][usable], rtol=1e-11, atol=1e-9)
    single = camera.float().world2image(points.float())[0]
    expected = ref["world2image_f32"][usable]
    np.testing.assert_allclose(single[usable], expected, rtol=2e-6, atol=1e-3)

    # The limit of the reference is wrong (docs/math.md, 2.9): ours is held against a scan.
    limit_sq = numeric_limit_sq(camera)
    radius_sq = (ref["project"] ** 2).sum(-1)
    in_front = points[:, 2].numpy() > 1e-3
    clear = np.abs(radius_sq - limit_sq) > 1e-3
    one_to_one = radius_sq < limit_sq
    assert (usable == (in_front & one_to_one))[clear].all()
    expected = in_front & ref["in_image"] & one_to_one
    assert (valid.numpy() == expected)[clear].all()
    agree = ref["distort_valid"] == one_to_one
    assert (valid.numpy() == ref["valid"])[clear & agree].all()


def test_the_reference_accepts_folded_points_that_we_refuse(shared_dir):
    stored = np.load(shared_dir / "fixtures" / "a_camera.npz")
    names = stored["models"].tolist()
    refused = 0
    for index, name in enumerate(names):
        params = stored[f"cam{index}_colmap_params"]
        camera = Camera.from_colmap({"model": name, "width": 640, "height": 480, "params": params})
        valid = camera.world2image(torch.from_numpy(stored["p3d"]))[1].numpy()
        refused += int((stored[f"cam{index}_valid"] & ~valid).sum())
        assert not (valid & ~stored[f"cam{index}_valid"]).any()
    assert refused > 40


@pytest.mark.parametrize("name", NAMES)
def test_projection_agrees_with_colmap(name):
    camera = make_camera(name)
    points = points_in_view(camera)
    theirs = pycolmap.Camera(**colmap_dict(name)).img_from_cam(points.numpy())
    ours = camera.world2image(points)[0]
    np.testing.assert_allclose(ours + 0.5, theirs, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_jacobian_is_the_derivative_of_the_projection(name):
    camera = make_camera(name)
    points = points_in_view(camera)

    def project_one(x):
        return camera.world2image(x[None])[0][0]

    expected = torch.func.vmap(torch.func.jacfwd(project_one))(points)
    points_px, J, valid = camera.project_with_jacobian(points)
    torch.testing.assert_close(J, expected, rtol=1e-9, atol=2e-5)
    torch.testing.assert_close(J[1:], expected[1:], rtol=1e-8, atol=1e-7)
    torch.testing.assert_close(points_px, camera.world2image(points)[0], rtol=0, atol=0)
    assert (valid == camera.world2image(points)[1]).all()
    torch.testing.assert_close(J, camera.J_world2image(points)[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_image2world_inverts_world2image(name):
    camera = make_camera(name)
    points = points_in_view(camera)[2:]
    rays, found = camera.image2world(camera.world2image(points)[0])
    assert found.all()
    torch.testing.assert_close(rays, points / points[:, 2:], rtol=0, atol=1e-8)


@few
@given(name=st.sampled_from(NAMES), factor=factors)
def test_scaling_commutes_with_projection(name, factor):
    camera = make_camera(name)
    points = points_in_view(camera)
    s = torch.tensor(factor, dtype=torch.float64)
    scaled = (camera.world2image(points)[0] + 0.5) * s - 0.5
    torch.testing.assert_close(camera.scale(factor).world2image(points)[0], scaled)
    undone = camera.scale(factor).scale((1 / factor[0], 1 / factor[1]))
    torch.testing.assert_close(undone.data, camera.data)


@few
@given(name=st.sampled_from(NAMES), corner=st.tuples(st.integers(-50, 300), st.integers(0, 200)))
def test_cropping_shifts_the_projection(name, corner):
    camera = make_camera(name)
    points = points_in_view(camera)
    window = camera.crop(corner, (100, 80))
    expected = camera.world2image(points)[0] - torch.tensor(corner)
    torch.testing.assert_close(window.world2image(points)[0], expected)
    assert window.size.tolist() == [100, 80]
    wider = camera.crop(corner, (200, 90))
    assert (window.world2image(points)[1] <= wider.world2image(points)[1]).all()


def test_scale_takes_factors_for_each_camera_of_a_batch():
    cameras = torch.stack([make_camera("PINHOLE")] * 2)
    scaled = cameras.scale(torch.tensor([[0.5, 0.25], [1.0, 2.0]]))
    assert scaled.size.tolist() == [[320, 120], [640, 960]]
    with pytest.raises(ShapeError, match=r"scale has shape \(3,\), expected \(\) or \(\*b, 2\)"):
        cameras.scale((1.0, 2.0, 3.0))


def test_the_borders_belong_to_the_image():
    camera = make_camera("PINHOLE")
    inside = torch.tensor([[0, 0], [639, 479], [0, 479]]).double()
    far = [[-1e-9, 0], [639 + 1e-9, 0], [5, 479.5], [torch.nan, 3]]
    outside = torch.tensor(far, dtype=torch.float64)
    assert camera.in_image(inside).all()
    assert not camera.in_image(outside).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_that_cannot_be_seen_are_masked_finite_and_without_gradient(name, dtype):
    camera = make_camera(name).to(dtype)
    bad = torch.tensor(
        [[0, 0, 0], [1, 2, -3], [0, 0, 1e-3], [1e30, -1e30, 1e-2], [5, 5, -1e30], [1e5, 0, 1]],
        dtype=dtype,
        requires_grad=True,
    )
    points_px, J, valid = camera.project_with_jacobian(bad)
    assert not valid.any()
    assert points_px.isfinite().all()
    assert J.isfinite().all()
    (gradient,) = torch.autograd.grad(points_px.sum() + J.sum() / 1e6, bad)
    assert gradient.isfinite().all()
    (gradient,) = torch.autograd.grad(camera.world2image(bad)[0].sum(), bad)
    assert (gradient == 0).all()


def test_not_a_number_is_masked_and_finite():
    nan, inf = torch.nan, torch.inf
    points = torch.tensor([[nan, 0, 1], [0, 0, nan], [nan, nan, nan], [inf, 0, 1], [1, 1, -inf]])
    for name in NAMES:
        points_px, J, valid = make_camera(name).project_with_jacobian(points.double())
        assert not valid.any()
        assert points_px.isfinite().all()
        assert J.isfinite().all()


def test_the_axis_of_every_lens_has_a_finite_gradient():
    for name in NAMES:
        point = torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
        _, J, _ = make_camera(name).project_with_jacobian(point)
        (gradient,) = torch.autograd.grad(J.sum(), point)
        assert gradient.isfinite().all()


def test_intrinsics_receive_gradients():
    data = make_camera("OPENCV").data.clone().requires_grad_()
    points_px, _, _ = Camera(data, DistortionModel.OPENCV).project_with_jacobian(
        points_in_view(make_camera("OPENCV"), 10)
    )
    (gradient,) = torch.autograd.grad(points_px.sum(), data)
    assert (gradient[2:] != 0).all()


def test_batches_of_cameras_and_points_broadcast():
    cameras = torch.stack([make_camera("PINHOLE"), make_camera("OPENCV")])
    points = points_in_view(make_camera("OPENCV"), 20)
    together = cameras.world2image(points)
    for i, name in enumerate(("PINHOLE", "OPENCV")):
        alone = make_camera(name).world2image(points)
        torch.testing.assert_close(together[0][i], alone[0])
        assert (together[1][i] == alone[1]).all()
    hypotheses = points.expand(3, 2, 20, 3)
    assert cameras.J_world2image(hypotheses)[0].shape == (3, 2, 20, 2, 3)


def test_stacking_writes_all_cameras_in_the_most_general_model():
    names = ["PINHOLE", "SIMPLE_RADIAL", "OPENCV", "FULL_OPENCV"]
    stacked = torch.stack([make_camera(name) for name in names])
    assert stacked.model is DistortionModel.FULL_OPENCV
    for i, name in enumerate(names):
        camera = make_camera(name)
        points = points_in_view(camera)
        expected = camera.world2image(points)[0]
        torch.testing.assert_close(stacked[i].world2image(points)[0], expected)
        torch.testing.assert_close(stacked[i].max_radius, camera.max_radius)
    assert torch.cat([stacked, stacked[:1]]).shape == (5,)
    fisheyes = [make_camera(name) for name in ("OPENCV_FISHEYE", "RADIAL_FISHEYE")]
    assert torch.stack(fisheyes).shape == (2,)
    with pytest.raises(ShapeError, match="NONE camera cannot be written as FISHEYE"):
        torch.stack([make_camera("PINHOLE"), make_camera("OPENCV_FISHEYE")])


@pytest.mark.parametrize("name", NAMES)
def test_colmap_dict_round_trip_projects_alike(name):
    camera = make_camera(name).scale((0.5, 0.5))
    again = Camera.from_colmap(camera.to_colmap_dict())
    points = points_in_view(camera)
    torch.testing.assert_close(again.world2image(points)[0], camera.world2image(points)[0])
    assert again.size.tolist() == [320, 240]


def test_colmap_dict_of_a_squeezed_radial_camera_is_opencv():
    camera = make_camera("RADIAL").scale((0.5, 0.25))
    written = camera.to_colmap_dict()
    assert written["model"] == "OPENCV"
    torch.testing.assert_close(Camera.from_colmap(written).f, camera.f)
    with pytest.raises(ShapeError, match="expected one camera"):
        torch.stack([camera, camera]).to_colmap_dict()


@pytest.mark.parametrize("points", [torch.zeros(3), torch.zeros(4, 2)])
def test_wrong_point_shapes_are_named(points):
    with pytest.raises(ShapeError, match=r"expected \(\*b, n, 3\)"):
        make_camera("PINHOLE").world2image(points.double())


def test_data_must_fit_the_model():
    with pytest.raises(ShapeError, match=r"OPENCV camera has shape \(8,\), expected \(\*b, 10\)"):
        Camera(torch.zeros(8), DistortionModel.OPENCV)
