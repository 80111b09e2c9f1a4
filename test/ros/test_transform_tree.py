import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixloc_core.errors import FrameError
from pixloc_ros.transform_tree import (
    PastError,
    RigidTransform,
    TransformTree,
    quat_product,
    rotate,
    slerp,
)

SECOND = 1_000_000_000


def yaw(angle: float, x: float = 0.0, y: float = 0.0) -> RigidTransform:
    q = (0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2))
    return RigidTransform.checked((x, y, 0.0), q)


def tree_of(*edges: tuple[str, str, int, RigidTransform], history_s: float = 10.0):
    tree = TransformTree(history_s)
    for parent, child, stamp, transform in edges:
        tree.add(parent, child, stamp, transform, static=False)
    return tree


def assert_close(found: RigidTransform, expected: RigidTransform) -> None:
    np.testing.assert_allclose(found.translation, expected.translation, atol=1e-12)
    same = abs(float(found.quat_xyzw @ expected.quat_xyzw))
    assert same == pytest.approx(1.0, abs=1e-12)


numbers = st.floats(-10, 10)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
quaternions = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .map(np.array)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)
rigids = st.builds(RigidTransform, vectors, quaternions)


@given(rigids, rigids, vectors)
def test_product_of_transforms_is_one_after_the_other(a, b, point):
    def apply(transform, vector):
        return rotate(transform.quat_xyzw, vector) + transform.translation

    np.testing.assert_allclose(apply(a @ b, point), apply(a, apply(b, point)), atol=1e-9)


@given(rigids, vectors)
def test_inverse_takes_a_transform_back(a, point):
    np.testing.assert_allclose((a @ a.inverse()).translation, np.zeros(3), atol=1e-9)
    turned = rotate(quat_product(a.quat_xyzw, a.inverse().quat_xyzw), point)
    np.testing.assert_allclose(turned, point, atol=1e-9)


@given(quaternions, quaternions)
def test_slerp_starts_and_ends_at_its_arguments(a, b):
    assert abs(slerp(a, b, 0.0) @ a) == pytest.approx(1.0)
    assert abs(slerp(a, b, 1.0) @ b) == pytest.approx(1.0)
    assert np.linalg.norm(slerp(a, b, 0.3)) == pytest.approx(1.0)


@given(st.floats(0, 1))
def test_slerp_turns_at_a_constant_rate(share):
    start, end = yaw(0.2).quat_xyzw, yaw(1.4).quat_xyzw
    expected = yaw(0.2 + share * 1.2).quat_xyzw
    np.testing.assert_allclose(slerp(start, end, share), expected, atol=1e-12)


def test_slerp_takes_the_shorter_way_when_signs_differ():
    start, end = yaw(0.1).quat_xyzw, -yaw(0.3).quat_xyzw
    assert abs(slerp(start, end, 0.5) @ yaw(0.2).quat_xyzw) == pytest.approx(1.0)


def test_position_between_two_stamps_is_interpolated():
    tree = tree_of(("odom", "base", 0, yaw(0.0, x=1.0)), ("odom", "base", SECOND, yaw(1.0, x=3.0)))
    assert_close(tree.lookup("odom", "base", SECOND // 4), yaw(0.25, x=1.5))


def test_entries_may_arrive_out_of_order():
    tree = tree_of(
        ("odom", "base", 0, yaw(0.0)),
        ("odom", "base", SECOND, yaw(0.0, x=2.0)),
        ("odom", "base", SECOND // 2, yaw(0.0, x=5.0)),
    )
    assert_close(tree.lookup("odom", "base", SECOND // 4), yaw(0.0, x=2.5))


def test_chain_over_a_common_ancestor_cancels_names():
    tree = tree_of(("map", "odom", 0, yaw(0.3, x=1.0)), ("odom", "base", 0, yaw(0.5, y=2.0)))
    tree.add("base", "camera", 0, yaw(-0.2, x=0.1), static=True)
    tree.add("base", "laser", 0, yaw(0.9, y=0.4), static=True)
    expected = yaw(0.9, y=0.4).inverse() @ yaw(-0.2, x=0.1)
    assert_close(tree.lookup("laser", "camera", 0), expected)
    expected = yaw(0.3, x=1.0) @ yaw(0.5, y=2.0) @ yaw(-0.2, x=0.1)
    assert_close(tree.lookup("map", "camera", 0), expected)
    assert_close(tree.lookup("camera", "map", 0), expected.inverse())


def test_static_transforms_hold_at_any_time():
    tree = TransformTree()
    tree.add("base", "camera", 5 * SECOND, yaw(0.4), static=True)
    assert_close(tree.lookup("base", "camera", 1), yaw(0.4))
    assert_close(tree.lookup("base", "camera", 10**18), yaw(0.4))


def test_lookup_outside_the_history_tells_what_is_known():
    tree = tree_of(("odom", "base", 2 * SECOND, yaw(0)), ("odom", "base", 3 * SECOND, yaw(0)))
    with pytest.raises(FrameError, match=r"at 4.000 s lies in the future .* 2.000 s to 3.000 s"):
        tree.lookup("odom", "base", 4 * SECOND)
    with pytest.raises(PastError, match="lies in the past"):
        tree.lookup("odom", "base", SECOND)


def test_newest_entry_is_given_when_no_stamp_is_asked():
    tree = tree_of(("odom", "base", 0, yaw(0)), ("odom", "base", SECOND, yaw(0, x=7.0)))
    assert_close(tree.lookup("odom", "base", None), yaw(0, x=7.0))


def test_history_is_bounded():
    tree = tree_of(
        *(("odom", "base", k * SECOND, yaw(0, x=float(k))) for k in range(100)), history_s=5.0
    )
    assert_close(tree.lookup("odom", "base", 94 * SECOND), yaw(0, x=94.0))
    with pytest.raises(PastError):
        tree.lookup("odom", "base", 93 * SECOND)


def test_backward_jump_of_a_publisher_forgets_all_but_static_transforms():
    tree = tree_of(("odom", "base", 50 * SECOND, yaw(0)), ("world", "cart", 50 * SECOND, yaw(0)))
    tree.add("base", "camera", 0, yaw(0.4), static=True)
    tree.add("odom", "base", SECOND, yaw(0, x=3.0), static=False)
    assert_close(tree.lookup("odom", "base", SECOND), yaw(0, x=3.0))
    assert_close(tree.lookup("base", "camera", SECOND), yaw(0.4))
    with pytest.raises(FrameError, match="unknown"):
        tree.lookup("world", "cart", 50 * SECOND)


def test_loop_of_frames_is_an_error_and_not_an_endless_search():
    tree = tree_of(("a", "b", 0, yaw(0)), ("b", "c", 0, yaw(0)), ("c", "a", 0, yaw(0)))
    with pytest.raises(FrameError, match="frames form a loop: a -> c -> b -> a"):
        tree.lookup("a", "b", 0)


def test_frame_with_a_new_parent_forgets_the_old_one():
    tree = tree_of(("floor1", "base", 0, yaw(0)), ("floor2", "base", SECOND, yaw(0, x=2.0)))
    assert_close(tree.lookup("floor2", "base", SECOND), yaw(0, x=2.0))
    with pytest.raises(FrameError):
        tree.lookup("floor1", "base", 0)


@pytest.mark.parametrize(("parent", "child"), [("a", "a"), ("", "a"), ("a", ""), ("/a", "a")])
def test_frames_need_two_different_names(parent, child):
    with pytest.raises(FrameError, match="expected two frame names"):
        TransformTree().add(parent, child, 0, yaw(0), static=False)


def test_frames_that_nobody_connects_are_named():
    tree = tree_of(("a", "b", 0, yaw(0)), ("x", "y", 0, yaw(0)))
    with pytest.raises(FrameError, match="'b' and 'y' are not connected"):
        tree.lookup("b", "y", 0)
    with pytest.raises(FrameError, match="frame 'z' is unknown"):
        tree.lookup("b", "z", 0)


@pytest.mark.parametrize(
    ("translation", "quaternion", "words"),
    [
        ((math.nan, 0, 0), (0, 0, 0, 1), "not finite"),
        ((0, 0, 0), (0, 0, math.inf, 1), "not finite"),
        ((0, 0, 0), (0, 0, 0, 0), "length 0, expected 1"),
        ((0, 0, 0), (0, 0, 0, 2), "length 2, expected 1"),
    ],
)
def test_numbers_that_are_no_rigid_transform_are_refused(translation, quaternion, words):
    with pytest.raises(FrameError, match=words):
        RigidTransform.checked(translation, quaternion)


def test_rounding_of_a_quaternion_is_taken_out():
    rigid = RigidTransform.checked((0, 0, 0), (0.0, 0.0, 0.0, 1.001))
    assert np.linalg.norm(rigid.quat_xyzw) == pytest.approx(1.0, abs=1e-15)
