"""`pixloc calibrate`: from a list and from a bag; what is written, what is refused."""

import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from toy_world import CAMERA, ToyWorld

from pixloc_core.bags.edit_plan import BagEdit, Outage
from pixloc_core.bags.editing import edit_bag
from pixloc_core.bags.reader import BagReader
from pixloc_core.cli import main
from pixloc_core.config import load
from pixloc_core.evaluation import assembly
from pixloc_core.localizer.config import LocalizerConfig
from pixloc_core.map.hloc_formats import read_poses, write_poses

TRAINING_FREE = "extractor.kind=gradients"
NUM_QUERIES = 24


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feature map, and two lists of queries with times: "queries" and "others"."""
    folder = tmp_path_factory.mktemp("room")
    world = ToyWorld()
    sfm, images = world.write(folder)
    write_queries(world, folder, "queries", seed=0)
    write_queries(world, folder, "others", seed=2)
    sources = ["--sfm", str(sfm), "--images", str(images)]
    assert main(["map", "build", *sources, "--out", f"{folder}/map.h5", TRAINING_FREE]) == 0
    return folder


def write_queries(world: ToyWorld, folder: Path, name: str, seed: int) -> None:
    """Images near those of the map, and their lists: cameras, times, true and initial poses."""
    (folder / "images" / name).mkdir()
    generator = torch.Generator().manual_seed(seed)
    truth, start, cameras, times = {}, {}, [], []
    parameters = " ".join(str(number) for number in CAMERA["params"])
    for index in range(NUM_QUERIES):
        image_name = f"{name}/{index:02d}.png"
        xi = 0.02 * torch.randn(2, 6, generator=generator, dtype=torch.float64)
        truth[image_name] = world.cam_from_map[1 + index // 5].retract(xi[0])
        start[image_name] = truth[image_name].retract(xi[1])
        image, _ = world.render(truth[image_name])
        cv2.imwrite(str(folder / "images" / image_name), image[..., ::-1])
        cameras.append(f"{image_name} PINHOLE 320 240 {parameters}")
        times.append(f"{1 + 0.2 * index:.1f} {image_name}")
    write_poses(folder / f"{name}_gt.txt", truth)
    write_poses(folder / f"{name}_init.txt", start)
    (folder / f"{name}.txt").write_text("\n".join(cameras))
    (folder / f"{name}_times.txt").write_text("\n".join(times))


def write_bag(room: Path, out: str, name: str, truth: str) -> Path:
    """Bag of a list of `write_queries`, with the poses of a file as ground truth."""
    lists = ["--list", f"{room}/{name}_times.txt", "--queries", f"{room}/{name}.txt"]
    poses = ["--images", f"{room}/images", "--gt", f"{room}/{truth}"]
    assert main(["bag", *lists, *poses, "--out", f"{room}/{out}"]) == 0
    return room / out


@pytest.fixture(scope="module")
def bag(room: Path) -> Path:
    return write_bag(room, "bag", "queries", "queries_gt.txt")


@pytest.fixture(scope="module")
def other_bag(room: Path) -> Path:
    return write_bag(room, "other", "others", "others_gt.txt")


@pytest.fixture(scope="module")
def doubtful_bag(room: Path) -> Path:
    """Images of `bag` with a truth that is 4 mm and 0.2 degrees off, in random directions."""
    generator = torch.Generator().manual_seed(1)
    noise = 0.004 * torch.randn(NUM_QUERIES, 6, generator=generator, dtype=torch.float64)
    truth = read_poses(room / "queries_gt.txt")
    moved = {name: truth[name].retract(xi) for name, xi in zip(truth, noise, strict=True)}
    write_poses(room / "doubtful.txt", moved)
    return write_bag(room, "doubtful", "queries", "doubtful.txt")


def from_list(room: Path, out: Path, *options: str) -> list[str]:
    lists = ["--queries", f"{room}/queries.txt", "--images", f"{room}/images"]
    poses = ["--poses", f"{room}/queries_init.txt", "--gt", f"{room}/queries_gt.txt"]
    return [*command(room, out), *lists, *poses, *options]


def command(room: Path, out: Path) -> list[str]:
    return ["calibrate", "--map", f"{room}/map.h5", "--out", str(out)]


def settings_of(path: Path) -> dict[str, float]:
    return dict(
        yaml.safe_load(path.read_text())["/**"]["ros__parameters"]["localizer"]["covariance"]
    )


def test_a_list_calibrates_what_the_node_reads(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "covariance.yaml"
    assert main(from_list(room, out)) == 0
    printed = capsys.readouterr().out
    for row in ("queries.txt, before", "queries.txt, after", "blocks by the others", "0 of 24"):
        assert row in printed
    verdict = printed.splitlines()[-1]
    assert re.match(
        r"PASSED: queries.txt, blocks by the others: 24 poses, which count as \d+ "
        r"independent ones: within 2 sigma \d+ to \d+ %",
        verdict,
    )
    assert verdict in " ".join(out.read_text().replace("# ", "").split())
    found = settings_of(out)
    assert set(found) == {"scale", "floor_px"}
    assert load(LocalizerConfig, covariance=found).covariance.floor_px == found["floor_px"]
    assert 0 < found["floor_px"] < 1
    assert f"localizer.covariance.floor_px={found['floor_px']:.4g}" in " ".join(
        out.read_text().replace("# ", "").split()
    )


def test_settings_that_say_too_much_error_are_brought_down(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["localizer.covariance.scale=0", "localizer.covariance.floor_px=3.0"]
    assert main(from_list(room, tmp_path / "c.yaml", *wrong)) == 0
    table = {
        cells[1].strip(): float(cells[-3])
        for line in capsys.readouterr().out.splitlines()
        if len(cells := line.split("|")) > 4 and cells[2].strip().isdigit()
    }
    assert table["queries.txt, before"] < 0.5
    assert 3 < table["queries.txt, after"] < 10


def test_a_bag_calibrates(
    room: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "covariance.yaml"
    options = ["--bag", str(bag), "--offset", "0.03", "0.5"]
    assert main([*command(room, out), *options]) == 0
    printed = capsys.readouterr().out
    assert "bag, after" in printed
    assert printed.splitlines()[-1].startswith("PASSED: bag, blocks by the others: 24 poses")
    assert f"bag ({NUM_QUERIES} poses)" in " ".join(out.read_text().replace("# ", "").split())
    assert settings_of(out)["floor_px"] > 0


def test_another_bag_that_the_fit_holds_for_passes(
    room: Path,
    bag: Path,
    other_bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "covariance.yaml"
    options = ["--bag", str(bag), "--judge", str(other_bag), "--offset", "0.03", "0.5"]
    assert main([*command(room, out), *options]) == 0
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith("PASSED: other, unseen: 24 poses")
    assert verdict in " ".join(out.read_text().replace("# ", "").split())
    assert f"bag ({NUM_QUERIES} poses)." in " ".join(out.read_text().replace("# ", "").split())


def test_a_bag_that_the_fit_does_not_hold_for_fails(
    room: Path, doubtful_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What decides is the bag to judge by; the file is written all the same, and says so."""
    out = tmp_path / "covariance.yaml"
    assert main(from_list(room, out, "--judge", str(doubtful_bag))) == 1
    printed = capsys.readouterr().out
    assert "blocks by the others" not in printed
    verdict = printed.splitlines()[-1]
    assert verdict.startswith("FAILED: doubtful, unseen: mean NEES is")
    assert "(too little error is said)" in verdict
    assert "FAILED: doubtful" in out.read_text()
    assert settings_of(out)["floor_px"] < 0.2


def test_bags_are_judged_by_each_other(
    room: Path,
    bag: Path,
    doubtful_bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--bag", str(bag), str(doubtful_bag), "--offset", "0.03", "0.5"]
    assert main([*command(room, tmp_path / "c.yaml"), *options]) == 1
    printed = capsys.readouterr().out
    assert "bag, by the others: mean NEES is 0." in printed
    assert "(too much error is said)" in printed
    assert "doubtful, by the others: mean NEES is" in printed


def test_a_bag_without_ground_truth_is_refused(
    room: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bag", str(bag), "--truth-topic", "/mocap"]
    assert main([*command(room, tmp_path / "c.yaml"), *options]) == 2
    error = capsys.readouterr().err
    assert "no ground truth" in error
    assert "'/mocap'" in error
    assert not (tmp_path / "c.yaml").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--bag, or the list: --queries, --images, --poses, --gt missing"),
        (["--queries", "q.txt"], "--images, --poses, --gt missing"),
        (["--bag", "b", "--queries", "q.txt"], "not both"),
        (["--bag", "b", "--judge", "x/../b"], "--judge x/../b: also given as --bag"),
        (["--bag", "b", "--every", "0"], "calibrate: --every is 0, expected at least 1\n"),
        (["--bag", "b", "--max-error-px", "nan"], ": --max-error-px is nan, expected more than 0"),
        (["--bag", "b", "--offset", "-1", "2"], ": --offset is -1 2, expected at least 0"),
        (["--bag", "nope"], "nope: not a rosbag2 folder, no such folder"),
        (["--bag", "b", "--out", "/nope/x.yaml"], "--out /nope/x.yaml: there is no folder /nope"),
        (["--bag", "b", "--out", "."], "--out .: a folder, expected a file to write"),
    ],
)
def test_half_an_input_is_refused(
    room: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*command(room, tmp_path / "c.yaml"), *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("judge", "words"),
    [("nope", "nope: not a rosbag2 folder"), ("untold", "untold: no ground truth")],
)
def test_what_to_judge_by_is_looked_at_before_the_work(
    *,
    room: Path,
    bag: Path,
    tmp_path: Path,
    judge: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoWork:
        def localize(self, *_arguments: object) -> None:
            raise AssertionError("an image was localized")

    monkeypatch.setattr(assembly, "open_localizer", lambda *_arguments: NoWork())
    silence = BagEdit(outages=(Outage(0.0, 99.0, "/ground_truth"),))
    edit_bag(BagReader(bag), tmp_path / "untold", silence)
    options = ["--bag", str(bag), "--judge", str(tmp_path / judge)]
    assert main([*command(room, tmp_path / "c.yaml"), *options]) == 2
    assert words in capsys.readouterr().err


def test_too_few_poses_are_refused(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(room / "map.h5", few)
    (few / "images").symlink_to(room / "images")
    for name in ("queries_init.txt", "queries_gt.txt", "queries.txt"):
        lines = (room / name).read_text().splitlines()
        (few / name).write_text("\n".join(lines[:3]))
    assert main(from_list(few, tmp_path / "c.yaml")) == 2
    error = capsys.readouterr().err
    assert "queries.txt: 3 poses to fit to or to judge by" in error
    assert "expected at least 20" in error
    assert not (tmp_path / "c.yaml").exists()
