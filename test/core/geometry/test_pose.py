import copy
import pickle

import numpy as np
import pycolmap
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixloc_core.errors import MapError, ShapeError
from pixloc_core.geometry import Pose, so3

# The first use of forward differentiation makes torch load its own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
few = settings(max_examples=40, deadline=None)
increments = st.tuples(*[st.floats(-3, 3)] * 6).map(
    lambda xi: torch.tensor(xi, dtype=torch.float64)
)
poses = increments.map(Pose.exp)


def assert_same(a: Pose, b: Pose, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a.data, b.data, rtol=0, atol=atol)


def random_poses(*batch: int, seed: int = 0) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    return Pose.exp(torch.randn(*batch, 6, generator=generator, dtype=torch.float64))


@few
@given(poses)
def test_inverse_composes_to_identity(pose):
    assert_same(pose @ pose.inv(), Pose.identity())
    assert_same(pose.inv() @ pose, Pose.identity())


@few
@given(poses, poses, poses)
def test_composition_is_associative_and_acts_like_its_parts(a, b, c):
    points = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.5]]).double()
    assert_same((a @ b) @ c, a @ (b @ c), atol=1e-11)
    torch.testing.assert_close((a @ b) * points, a * (b * points))


@few
@given(poses)
def test_the_centre_is_the_origin_of_the_target_frame(pose):
    torch.testing.assert_close(pose * pose.center, torch.zeros(3).double(), rtol=0, atol=1e-12)


@few
@given(poses, increments)
def test_retract_multiplies_from_the_left_with_rotation_and_translation_apart(pose, xi):
    moved = pose.retract(xi)
    assert_same(moved, Pose.exp(xi) @ pose)
    torch.testing.assert_close(moved.t, so3.exp(xi[3:]) @ pose.t + xi[:3])


@few
@given(poses)
def test_log_undoes_exp_and_quaternion_and_matrix_forms_agree(pose):
    assert_same(Pose.exp(pose.log()), pose)
    assert_same(Pose.from_quat_wxyz(pose.quat_wxyz(), pose.t), pose)
    assert_same(Pose.from_Rt(pose.R, pose.t), pose)
    T = torch.eye(4).double()
    T[:3, :3], T[:3, 3] = pose.R, pose.t
    assert_same(Pose.from_4x4(T), pose)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, torch.pi - 1e-8])
def test_J_transform_is_the_derivative_of_the_retracted_transform(angle):
    axis = torch.tensor([0.6, 0.0, -0.8]).double()
    pose = Pose.from_aa(angle * axis, torch.tensor([1.0, -2.0, 0.3]).double())
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    J = torch.func.jacfwd(lambda xi: pose.retract(xi) * points)(torch.zeros(6).double())
    torch.testing.assert_close(pose.J_transform(pose * points), J, rtol=0, atol=1e-12)


def test_reference_numbers_are_reproduced(shared_dir):
    reference = np.load(shared_dir / "fixtures" / "b_pose.npz")
    a = Pose.from_aa(reference["aa"], reference["t"])
    b = Pose.from_aa(reference["aa2"], reference["t2"])
    points = a * reference["p3d"]
    degrees, length = a.magnitude()
    found = {
        "A": a.data,
        "B": b.data,
        "A_inv": a.inv().data,
        "A_compose_B": (a @ b).data,
        "A_transform": points,
        "J_transform": a.J_transform(points),
        "skew": so3.hat(torch.from_numpy(reference["aa"])),
        "magnitude_t": length,
        "rotmat_from_qvec": so3.from_quat_wxyz(torch.from_numpy(reference["qvec"])),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, reference[name], rtol=0, atol=1e-13, err_msg=name)
    # The reference measures angles by an arc cosine, good to 1e-8 rad near 0 and pi.
    np.testing.assert_allclose(degrees, reference["magnitude_deg"], rtol=0, atol=1e-5)
    exact = np.rad2deg(np.linalg.norm(reference["aa"], axis=-1))
    within = exact <= 180
    np.testing.assert_allclose(degrees[within], exact[within], rtol=0, atol=1e-12)
    q = a.quat_wxyz().numpy()
    q = q * np.sign((q * reference["qvec"]).sum(-1, keepdims=True))
    np.testing.assert_allclose(q, reference["qvec"], rtol=0, atol=1e-10)


def test_reference_numbers_are_reproduced_in_float32(shared_dir):
    reference = np.load(shared_dir / "fixtures" / "b_pose.npz")
    pose = Pose.from_aa(reference["aa"].astype(np.float32), reference["t"].astype(np.float32))
    assert pose.dtype == torch.float32
    np.testing.assert_allclose(pose.data, reference["A_f32"], rtol=0, atol=5e-7)
    # Here the reference is wrong by up to 0.03 degrees; ours is not.
    exact = np.rad2deg(np.linalg.norm(reference["aa"], axis=-1))
    np.testing.assert_allclose(pose.magnitude()[0], exact, rtol=1e-6, atol=1e-4)


def test_many_poses_move_shared_points_in_one_call():
    poses = random_poses(4)
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
    together = poses * points
    assert together.shape == (4, 7, 3)
    for i in range(4):
        torch.testing.assert_close(together[i], poses[i] * points)
    torch.testing.assert_close((poses * points[0]), together[:, 0])


def test_rotations_stay_orthonormal_over_many_normalized_updates():
    pose = Pose.identity(dtype=torch.float32)
    xi = torch.tensor([0.1, 0, 0, 0.2, -0.1, 0.3])
    for _ in range(500):
        pose = pose.retract(xi).normalized()
    assert (pose.R @ pose.R.mT - torch.eye(3)).abs().max() < 5e-7


def test_batches_index_reshape_and_join_like_tensors():
    poses = random_poses(2, 3)
    assert poses.shape == (2, 3)
    assert len(poses) == 2
    assert poses[1].shape == (3,)
    assert poses[..., 0].shape == (2,)
    assert poses[:, None].shape == (2, 1, 3)
    assert poses[torch.tensor([True, False])].shape == (1, 3)
    assert poses.reshape(6).shape == (6,)
    assert poses.unsqueeze(-1).squeeze(-1).shape == (2, 3)
    assert poses[0, 0].expand(5).shape == (5,)
    assert_same(torch.stack([poses[0], poses[1]]), poses)
    assert torch.stack([poses, poses], dim=-1).shape == (2, 3, 2)
    assert_same(torch.cat([poses[:1], poses[1:]], dim=0), poses)
    assert torch.cat([poses, poses], -1).shape == (2, 6)
    assert [p.shape for p in poses] == [(3,), (3,)]
    with pytest.raises(IndexError):
        poses[0, 0, 0]
    with pytest.raises(TypeError):
        torch.exp(poses)


def test_batches_broadcast_in_compositions():
    a, b = random_poses(4, 1), random_poses(3, seed=1)
    c = a @ b
    assert c.shape == (4, 3)
    assert_same(c[2, 1], a[2, 0] @ b[1])


def test_poses_cannot_be_changed_and_can_be_copied():
    pose = random_poses(2)
    for name in ("data", "R", "t", "anything"):
        with pytest.raises(AttributeError):
            setattr(pose, name, 0)
    for twin in (copy.deepcopy(pose), pickle.loads(pickle.dumps(pose))):
        assert_same(twin, pose, atol=0)


def test_number_type_and_gradient_follow_the_input():
    R = torch.eye(3).expand(2, 3, 3)
    t = torch.zeros(2, 3, requires_grad=True)
    pose = Pose.from_Rt(R, t)
    assert pose.dtype == torch.float32
    assert pose.requires_grad
    assert not pose.detach().requires_grad
    assert pose.double().dtype == pose.to(torch.float64).dtype == torch.float64
    assert "float32" in repr(pose)
    rotation, translation = pose.numpy()
    assert rotation.shape == (2, 3, 3)
    assert translation.shape == (2, 3)


def test_gradients_are_finite_at_the_identity():
    xi = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    pose = Pose.identity(2).retract(xi)
    degrees, length = pose.magnitude()
    total = degrees.sum() + length.sum() + pose.log().sum() + pose.quat_wxyz().sum()
    (gradient,) = torch.autograd.grad(total, xi)
    assert gradient.isfinite().all()


def test_colmap_poses_are_read_in_all_their_forms():
    expected = random_poses()
    x, y, z, w = expected.quat_wxyz()[[1, 2, 3, 0]].tolist()
    rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), expected.t.numpy())
    assert_same(Pose.from_colmap(rigid), expected)

    class OldImage:
        qvec, tvec = (w, x, y, z), expected.t.tolist()

    class PosedImage:
        has_pose = True

        def cam_from_world(self):
            return rigid

    assert_same(Pose.from_colmap(OldImage()), expected)
    assert_same(Pose.from_colmap(PosedImage()), expected)
    with pytest.raises(MapError, match=r"a\.jpg has no pose"):
        Pose.from_colmap(pycolmap.Image(name="a.jpg"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pose(torch.zeros(3, 11)),
        lambda: Pose(torch.zeros(12, dtype=torch.int64)),
        lambda: Pose.from_Rt(torch.zeros(3, 2), torch.zeros(3)),
        lambda: Pose.from_Rt(torch.zeros(2, 3, 3), torch.zeros(5, 3)),
        lambda: Pose.exp(torch.zeros(7)),
        lambda: Pose.identity() * torch.zeros(5, 2),
    ],
)
def test_wrong_shapes_are_named(make):
    with pytest.raises(ShapeError, match=r"expected|broadcast"):
        make()
