import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pixloc_core.geometry import so3

PI = torch.pi
# The first use of forward differentiation makes torch load its own scripted decompositions.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
few = settings(max_examples=40, deadline=None)
unit = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


def vector(axis, angle):
    axis = torch.tensor(axis, dtype=torch.float64)
    return axis / axis.norm() * angle


# Tiny, small, ordinary, near half a turn from either side of every numerical branch.
ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 0.01, 1.0, 3.0, PI - 1e-3, PI - 1e-7, PI - 1e-9]


@few
@given(axis=unit, angle=st.floats(0, PI - 1e-9))
def test_log_undoes_exp(axis, angle):
    w = vector(axis, angle)
    torch.testing.assert_close(so3.log(so3.exp(w)), w, rtol=0, atol=1e-12)


@few
@given(axis=unit, angle=st.floats(-20, 20))
def test_exp_is_a_rotation_and_agrees_with_scipy(axis, angle):
    R = so3.exp(vector(axis, angle))
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double(), rtol=0, atol=1e-14)
    expected = Rotation.from_rotvec(vector(axis, angle).numpy()).as_matrix()
    np.testing.assert_allclose(R, expected, atol=1e-13)


@few
@given(axis=unit, angle=st.floats(0, PI))
def test_quaternion_round_trip_is_hamilton_with_w_first(axis, angle):
    R = so3.exp(vector(axis, angle))
    q = so3.to_quat_wxyz(R)
    assert q[0] >= 0
    torch.testing.assert_close(so3.from_quat_wxyz(-3 * q), R, rtol=0, atol=1e-14)
    expected = Rotation.from_matrix(R.numpy()).as_matrix()
    found = Rotation.from_quat(q[[1, 2, 3, 0]].numpy()).as_matrix()
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_exp_derivative_at_the_identity_is_the_cross_product():
    J = torch.func.jacfwd(so3.exp)(torch.zeros(3).double())
    p = torch.tensor([0.3, -2.0, 5.0]).double()
    torch.testing.assert_close(torch.einsum("ijk,j->ik", J, p), -so3.hat(p), rtol=0, atol=1e-15)


@pytest.mark.parametrize("angle", ANGLES)
def test_log_derivative_inverts_that_of_exp(angle):
    w = vector((0.2, -0.9, 0.4), angle)

    def there_and_back(x):
        return so3.log(so3.exp(x))

    for jacobian in (torch.func.jacfwd, torch.func.jacrev):
        J = jacobian(there_and_back)(w)
        torch.testing.assert_close(J, torch.eye(3).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("diagonal", [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
def test_gradients_at_identity_and_half_turns_are_finite(diagonal):
    R = torch.diag(torch.tensor(diagonal, dtype=torch.float64)).requires_grad_()
    for function in (so3.log, so3.to_quat_wxyz, so3.angle):
        (gradient,) = torch.autograd.grad(function(R).sum(), R)
        assert gradient.isfinite().all()


def test_angle_resolves_a_thousandth_of_a_degree_in_float32():
    small = torch.deg2rad(torch.tensor([1e-5, 1e-3, 0.1, 179.99], dtype=torch.float32))
    R = so3.exp(torch.stack((small, 0 * small, 0 * small), -1))
    torch.testing.assert_close(so3.angle(R), small, rtol=1e-6, atol=1e-9)


def test_projection_to_rotations_finds_the_closest_one():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(50, 3, 3, generator=generator, dtype=torch.float64)
    R = so3.project_to_so3(A)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(50).double())
    others = so3.exp(0.3 * torch.randn(200, 1, 3, generator=generator, dtype=torch.float64)) @ R
    assert ((others - A).norm(dim=(-2, -1)) >= (R - A).norm(dim=(-2, -1)) - 1e-12).all()


def test_orthonormalize_repairs_rounding_and_keeps_gradients():
    R = so3.exp(torch.tensor([0.4, -1.0, 2.0]).double())
    noisy = R + 3e-4 * torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double()
    repaired = so3.orthonormalize(noisy)
    torch.testing.assert_close(repaired, so3.project_to_so3(noisy), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(so3.orthonormalize, noisy.clone().requires_grad_())


def test_safe_norm_has_zero_gradient_at_zero():
    v = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(so3.safe_norm(v).sum(), v)
    assert (gradient == 0).all()
