"""COLMAP models: what is read, and what is refused."""

import logging
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from wall_scene import wall_scene

from pixloc_core.errors import MapError
from pixloc_core.map.colmap_format import fingerprint, from_colmap
from pixloc_core.map.reprojection import reprojection_errors
from pixloc_core.map.sparse_map import SparseMap

Write = Callable[..., Path]


def assert_same(a: SparseMap, b: SparseMap) -> None:
    assert a.image_names == b.image_names
    assert torch.equal(a.obs_offsets, b.obs_offsets)
    assert torch.equal(a.obs_point, b.obs_point)
    assert torch.equal(a.obs_px, b.obs_px)
    for one, other in ((a.points_map, b.points_map), (a.cam_from_map.data, b.cam_from_map.data)):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_points_project_onto_their_observations(write_model: Write) -> None:
    """So poses, distortion and COLMAP's half pixel are understood, the latter exactly once."""
    sparse = from_colmap(write_model())
    # Observations are single precision.
    assert float(reprojection_errors(sparse).max()) < 1e-4


def test_half_a_pixel_is_taken_off_principal_point_and_observations(write_model: Write) -> None:
    scene = wall_scene()
    sparse = from_colmap(write_model(scene))
    np.testing.assert_allclose(sparse.cameras[0].c.numpy(), [159.75, 119.0], rtol=0, atol=1e-12)
    image = scene.find_image_with_name(sparse.image_names[2])
    expected = np.array([p.xy for p in image.points2D if p.has_point3D()]) - 0.5
    found = sparse.obs_px[sparse.observations_of(2)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)


def test_points_and_observations_are_those_of_pycolmap(write_model: Write) -> None:
    scene = wall_scene()
    sparse = from_colmap(write_model(scene))
    ids = sorted(scene.points3D)
    expected = np.array([scene.points3D[i].xyz for i in ids])
    found = (sparse.points_map + sparse.origin).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    tracks = [scene.points3D[i].track.length() for i in ids]
    assert sparse.track_length.tolist() == tracks
    for index, name in enumerate(sparse.image_names):
        image = scene.find_image_with_name(name)
        seen = [p.point3D_id for p in image.points2D if p.has_point3D()]
        points = sparse.obs_point[sparse.observations_of(index)]
        assert [ids[point] for point in points.tolist()] == seen
        matrix = image.cam_from_world().matrix()
        pose = sparse.to_model(sparse.cam_from_map[index])
        np.testing.assert_allclose(pose.R.numpy(), matrix[:, :3], rtol=0, atol=1e-12)
        np.testing.assert_allclose(pose.t.numpy(), matrix[:, 3], rtol=0, atol=1e-12)


def test_binary_and_text_models_give_the_same_map(write_model: Write) -> None:
    binary, text = write_model(name="bin"), write_model(name="txt", text=True)
    assert_same(from_colmap(binary), from_colmap(text))


@pytest.mark.parametrize("text", [False, True])
def test_models_without_rigs_and_frames_give_the_same_map(write_model: Write, text: bool) -> None:
    new, old = write_model(name="new"), write_model(name="old", text=text, rigs=False)
    assert_same(from_colmap(new), from_colmap(old))


@pytest.mark.parametrize("text", [False, True])
def test_rigs_of_several_cameras_are_read(write_model: Write, text: bool) -> None:
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=2, num_cameras_per_rig=3, num_frames_per_rig=3, num_points3D=40
    )
    pycolmap.set_random_seed(1)
    sparse = from_colmap(write_model(pycolmap.synthesize_dataset(options), text=text))
    assert (sparse.num_images, len(sparse.cameras), sparse.num_points) == (18, 6, 40)
    assert float(reprojection_errors(sparse).median()) < 1e-3


def test_maps_in_a_national_grid_keep_their_millimetres(write_model: Write) -> None:
    near = from_colmap(write_model(name="near"))
    far = from_colmap(write_model(wall_scene(offset=(691_000.0, 5_336_000.0, 520.0)), name="far"))
    assert float(far.points_map.abs().max()) < 20
    shift = far.origin - near.origin
    points = far.points_map - near.points_map + shift - torch.tensor([691e3, 5336e3, 520.0])
    assert float(points.abs().max()) < 1e-6
    assert float(reprojection_errors(far).max()) < 1e-3
    back = far.to_local(far.to_model(far.cam_from_map))
    torch.testing.assert_close(back.data, far.cam_from_map.data, rtol=0, atol=1e-8)


def test_quaternions_that_are_rounded_are_normalized(write_model: Write) -> None:
    folder = write_model(text=True, rigs=False)
    path = folder / "images.txt"
    lines = path.read_text().splitlines()
    fields = lines[4].split()
    fields[1:5] = [repr(1.0005 * float(number)) for number in fields[1:5]]
    lines[4] = " ".join(fields)
    path.write_text("\n".join(lines) + "\n")
    R = from_colmap(folder).cam_from_map.R
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand_as(R), rtol=0, atol=1e-14)


def test_images_without_points_are_left_out_with_a_warning(
    write_model: Write, caplog: pytest.LogCaptureFixture
) -> None:
    scene = wall_scene()
    image = pycolmap.Image(name="blank.jpg", camera_id=3, image_id=77)
    scene.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    with caplog.at_level(logging.WARNING):
        sparse = from_colmap(write_model(scene))
    assert "blank.jpg" not in sparse.image_names
    assert "1 images without points are left out (first: blank.jpg)" in caplog.text


def test_images_without_a_finite_pose_are_left_out_with_a_warning(
    write_model: Write, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(rigs=False)
    content = bytearray((folder / "images.bin").read_bytes())
    # Of the first image: count (8 bytes), id (4), quaternion (32), then the translation.
    content[44:52] = struct.pack("<d", float("nan"))
    (folder / "images.bin").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        sparse = from_colmap(folder)
    assert sparse.num_images == 5
    assert "1 images without a pose are left out" in caplog.text


def test_reprojection_errors_that_the_model_lacks_are_computed(write_model: Write) -> None:
    scene = wall_scene()
    assert not any(point.has_error() for point in scene.points3D.values())
    assert float(from_colmap(write_model(scene, name="unknown")).point_error.max()) < 1e-4
    scene.update_point_3d_errors()
    for point in scene.points3D.values():
        point.error = 0.75
    known = from_colmap(write_model(scene, name="known"))
    assert known.point_error.unique().tolist() == [0.75]


def test_the_fingerprint_follows_the_content(write_model: Write) -> None:
    first = write_model(name="first")
    same = write_model(name="same")
    other = write_model(wall_scene(num_points=301), name="other")
    assert fingerprint(first) == fingerprint(same) == from_colmap(first).fingerprint
    assert fingerprint(first) != fingerprint(other)


def refused(folder: Path) -> str:
    """Message with which a model is refused: one line that names the folder or a file in it."""
    with pytest.raises(MapError) as caught:
        from_colmap(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "no COLMAP model" in refused(tmp_path)


def test_a_missing_file_is_named(write_model: Write) -> None:
    folder = write_model()
    (folder / "points3D.bin").unlink()
    assert "points3D.bin missing" in refused(folder)


@pytest.mark.parametrize("stem", ["cameras", "images", "points3D", "rigs", "frames"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.97])
def test_truncated_binary_files_are_named(write_model: Write, stem: str, share: float) -> None:
    """On some of these pycolmap by itself would end the process."""
    folder = write_model()
    path = folder / f"{stem}.bin"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert f"{stem}.bin: truncated" in refused(folder)


def test_bytes_after_the_end_are_refused(write_model: Write) -> None:
    folder = write_model()
    with (folder / "cameras.bin").open("ab") as stream:
        stream.write(b"\0\0\0")
    assert "cameras.bin: 3 bytes after the last entry" in refused(folder)


@pytest.mark.parametrize("stem", ["cameras", "images", "points3D"])
def test_truncated_text_files_are_refused(write_model: Write, stem: str) -> None:
    folder = write_model(text=True)
    path = folder / f"{stem}.txt"
    path.write_text(path.read_text()[: int(0.6 * path.stat().st_size)])
    refused(folder)


def test_references_to_points_that_do_not_exist_are_refused(write_model: Write) -> None:
    folder = write_model()
    other = wall_scene(num_points=100)
    scratch = folder / "other"
    scratch.mkdir()
    other.write_binary(str(scratch))
    (folder / "points3D.bin").write_bytes((scratch / "points3D.bin").read_bytes())
    assert "observes points missing" in refused(folder)


def test_a_model_without_images_is_refused(write_model: Write) -> None:
    assert "empty COLMAP model" in refused(write_model(pycolmap.Reconstruction()))


def test_camera_models_that_are_not_supported_are_named(write_model: Write) -> None:
    message = refused(write_model(wall_scene(model="FOV")))
    assert "camera 3" in message
    assert "FOV" in message


def test_unknown_camera_model_numbers_are_named(write_model: Write) -> None:
    folder = write_model()
    content = bytearray((folder / "cameras.bin").read_bytes())
    content[12:16] = struct.pack("<I", 4711)
    (folder / "cameras.bin").write_bytes(content)
    assert "cameras.bin: camera 3 has the unknown model number 4711" in refused(folder)


def test_unknown_camera_model_names_are_named_with_their_line(write_model: Write) -> None:
    folder = write_model(text=True)
    path = folder / "cameras.txt"
    path.write_text(path.read_text().replace("OPENCV", "BANANA"))
    assert "cameras.txt:4: " in refused(folder)
    assert "BANANA" in refused(folder)


@pytest.mark.parametrize("text", [False, True])
def test_image_names_that_are_not_utf8_are_named(write_model: Write, text: bool) -> None:
    folder = write_model(text=text)
    path = folder / ("images.txt" if text else "images.bin")
    path.write_bytes(path.read_bytes().replace(b"row/02.jpg", b"row/0\xe8.jpg"))
    assert f"{path}: b'row/0\\xe8.jpg' is not UTF-8" in refused(folder)
