"""`pixloc localize` on a small synthetic room: poses, log, failures and refusals."""

import csv
import json
from pathlib import Path

import cv2
import pytest
import torch
from toy_world import CAMERA, ToyWorld

from pixloc_core.cli import main
from pixloc_core.evaluation.pose_error import errors_by_name
from pixloc_core.map.hloc_formats import read_poses, write_poses

QUERIES = ("q/0.png", "q/1.png", "q/2.png")
# Exact in this room, and fast.
TRAINING_FREE = "extractor.kind=gradients"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, images, feature map, and lists for three queries between the map images."""
    folder = tmp_path_factory.mktemp("room")
    world = ToyWorld()
    sfm, images = world.write(folder)
    (images / "q").mkdir()
    truth, start, cameras, pairs = {}, {}, [], []
    shift = torch.tensor([0.03, -0.02, 0.02, 0.004, 0.008, -0.006], dtype=torch.float64)
    parameters = " ".join(str(number) for number in CAMERA["params"])
    for index, name in enumerate(QUERIES):
        pose = world.cam_from_map[index + 1].retract(shift)
        image, _ = world.render(pose)
        cv2.imwrite(str(images / name), image[..., ::-1])
        truth[name], start[name] = pose, pose.retract(-1.5 * shift)
        cameras.append(f"{name} PINHOLE 320 240 {parameters}")
        pairs += [f"{name} {reference}" for reference in world.names[index : index + 3]]
    write_poses(folder / "gt.txt", truth)
    write_poses(folder / "init.txt", start)
    (folder / "queries.txt").write_text("\n".join(cameras))
    (folder / "pairs.txt").write_text("\n".join(pairs))
    sources = ["--sfm", str(sfm), "--images", str(images)]
    assert main(["map", "build", *sources, "--out", f"{folder}/map.h5", TRAINING_FREE]) == 0
    return folder


def command(room: Path, results: Path, *options: str, source: str = "map") -> list[str]:
    sources = {
        "map": ["--map", f"{room}/map.h5"],
        "sfm": ["--sfm", f"{room}/sfm", "--map-images", f"{room}/images"],
    }
    lists = ["--queries", f"{room}/queries.txt", "--images", f"{room}/images"]
    return ["localize", *sources[source], *lists, "--results", str(results), *options]


def worst_error(room: Path, results: Path) -> tuple[float, float]:
    _, errors = errors_by_name(read_poses(results), read_poses(room / "gt.txt"))
    return float(errors.position.max()), float(errors.rotation_deg.max())


@pytest.mark.parametrize("prior", ["--poses init.txt", "--pairs pairs.txt"])
def test_queries_are_localized_from_poses_and_from_references(
    room: Path, tmp_path: Path, prior: str
) -> None:
    option, name = prior.split()
    results = tmp_path / "poses.txt"
    assert main(command(room, results, option, f"{room}/{name}")) == 0
    position, degrees = worst_error(room, results)
    assert position < 0.02
    assert degrees < 0.2
    with (tmp_path / "poses_log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == list(QUERIES)
    assert {row["status"] for row in rows} == {"LOCALIZED"}
    assert all(float(row["time_ms"]) > float(row["align_ms"]) > 0 for row in rows)


def test_a_broken_image_costs_only_its_own_pose_and_the_exit_code_tells(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    (images / "q").mkdir(parents=True)
    for name in QUERIES[1:]:
        (images / name).write_bytes((room / "images" / name).read_bytes())
    (images / QUERIES[0]).write_bytes(b"no image")
    results, log = tmp_path / "poses.txt", tmp_path / "log.json"
    options = ["--poses", f"{room}/init.txt", "--log", str(log), "--images", str(images)]
    assert main(command(room, results, *options)) == 2
    assert set(read_poses(results)) == set(QUERIES[1:])
    statuses = {row["query"]: row["status"] for row in json.loads(log.read_text())}
    assert statuses[QUERIES[0]] == "BAD_IMAGE"
    told = [line for line in capsys.readouterr().err.splitlines() if QUERIES[0] in line]
    assert len(told) == 1


def test_a_query_that_no_list_names_is_no_error_but_listed(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poses = read_poses(room / "init.txt")
    write_poses(tmp_path / "init.txt", {QUERIES[1]: poses[QUERIES[1]]})
    results = tmp_path / "poses.txt"
    assert main(command(room, results, "--poses", f"{tmp_path}/init.txt")) == 0
    assert set(read_poses(results)) == {QUERIES[1]}
    captured = capsys.readouterr()
    assert "1 of 3 queries localized" in captured.out
    assert "NO_PRIOR: 2" in captured.err


def test_without_a_feature_map_one_is_built_on_first_use_and_kept(
    room: Path, tmp_path: Path
) -> None:
    results = tmp_path / "poses.txt"
    line = command(room, results, "--poses", f"{room}/init.txt", TRAINING_FREE, source="sfm")
    assert main(line) == 0
    (cache,) = tmp_path.glob("map_*.h5")
    made = cache.stat().st_mtime_ns
    assert main(line) == 0
    assert cache.stat().st_mtime_ns == made
    assert worst_error(room, results)[0] < 0.02


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--pairs", "{tmp}/unknown.txt"], "'map/99.png', listed for q/0.png, is not in the map"),
        (["--pairs", "{tmp}/others.txt"], "names none of the queries"),
        (["--poses", "{room}/init.txt", "localizer.nonsense=1"], "nonsense"),
        (["--poses", "{room}/init.txt", "localizer.min_score=2"], "min_score"),
        (["--poses", "{room}/init.txt", "--map", "{tmp}/none.h5"], "none.h5: no such feature map"),
        (["--poses", "{room}/init.txt", "extractor.gradients.max_size=128"], "build it again"),
        (["--poses", "{room}/none.txt"], "none.txt"),
    ],
)
def test_unusable_input_is_refused_in_one_line_before_any_work(
    room: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    options: list[str],
    expected: str,
) -> None:
    (tmp_path / "unknown.txt").write_text("q/0.png map/99.png\n")
    (tmp_path / "others.txt").write_text("x.png map/00.png\n")
    filled = [option.format(room=room, tmp=tmp_path) for option in options]
    assert main(command(room, tmp_path / "poses.txt", *filled)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "poses.txt").exists()


def test_the_starts_of_these_tests_are_off_by_more_than_the_answers(room: Path) -> None:
    position, degrees = worst_error(room, room / "init.txt")
    assert position > 0.04
    assert degrees > 0.5
