"""`pixloc train` as a user calls it: what a run leaves behind, and one line where it cannot be."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_training import SMALL

from pixloc_core.cli import main
from pixloc_core.features.extractor import create_extractor
from pixloc_core.features.weights import read_weights

TINY = (
    *SMALL,
    "data.size=[96,64]",
    "data.num_points=64",
    "data.synthetic.texture_size=64",
    "data.synthetic.num_procedural=8",
    "optimization.steps=2",
    "run.picture_pairs=1",
)


def run(tmp_path: Path, *arguments: str) -> int:
    return main(["train", "site", "--runs", str(tmp_path), *arguments])


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "numbers.jsonl").read_text().splitlines()]


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    # The last line: a progress bar may stand before it.
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_run_leaves_weights_settings_numbers_and_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *TINY) == 0
    folder = tmp_path / "site"
    assert f"weights in {folder / 'best.safetensors'}" in capsys.readouterr().out
    for name in ("config.yaml", "state.safetensors", "last.safetensors"):
        assert (folder / name).is_file()
    assert list(folder.glob("events.out.tfevents.*"))
    assert [entry["kind"] for entry in numbers(folder)] == ["train", "train", "validation"]
    assert "synthetic" in read_weights(folder / "best.safetensors").provenance.trained_on
    weights = {"weights": str(folder / "best.safetensors"), "octaves": 1}
    extractor = create_extractor({"kind": "network", "network": weights})
    assert extractor.strides == (2, 4, 8)


def test_a_run_is_resumed_with_its_own_settings(tmp_path: Path) -> None:
    assert run(tmp_path, *TINY) == 0
    assert run(tmp_path, "--resume", "optimization.steps=3") == 0
    entries = numbers(tmp_path / "site")
    assert [entry["step"] for entry in entries if entry["kind"] == "train"] == [1, 2, 3]


def test_settings_may_stand_before_and_behind_the_options(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["train", "site", *TINY, "--contact-sheet", str(sheet), "run.seed=4"]) == 0
    assert sheet.stat().st_size > 1000
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("data.kind=colmap",), "data.sfm is empty"),
        (("data.kind=colmap", "data.sfm=nowhere", "data.images=."), "nowhere"),
        (("data.synthetic.photos=nowhere",), "nowhere"),
        (("weights=nowhere.safetensors",), "nowhere.safetensors"),
        (("optimization.steps=0",), "steps is 0, expected at least 1"),
        (("optimisation.steps=1",), "optimisation"),
        (("--conf", "nowhere.yaml"), "nowhere.yaml"),
        (("--resume",), "no run to resume"),
        (("run.device=cuda:77",), "cuda:77"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    settings = () if "--resume" in arguments else TINY
    assert run(tmp_path, *settings, *arguments) == 2
    line = refusal(capsys)
    assert line.startswith("pixloc train: ")
    assert expected in line
    # Nothing stands in the way of the right command.
    assert not (tmp_path / "site" / "state.safetensors").exists()


def test_a_run_of_that_name_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, *TINY) == 0
    before = (tmp_path / "site" / "state.safetensors").read_bytes()
    assert run(tmp_path, *TINY) == 2
    assert "there is such a run already" in refusal(capsys)
    assert (tmp_path / "site" / "state.safetensors").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site").write_text("a file")
    assert run(tmp_path, *TINY) == 2
    assert str(tmp_path / "site") in refusal(capsys)


def test_a_corrupt_photo_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_dir: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(shared_dir / "photos" / "banana_001.jpg", photos / "a.jpg")
    (photos / "b.jpg").write_bytes(b"no picture")
    code = run(tmp_path, *TINY, f"data.synthetic.photos={photos}")
    assert (code, "b.jpg" in capsys.readouterr().err) == (2, True)


@pytest.mark.slow
def test_a_process_killed_at_once_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    settings = [*TINY, "optimization.steps=8", "run.save_every=2", "run.workers=1"]
    for name in ("whole", "killed"):
        command = [sys.executable, "-m", "pixloc_core", "train", name, "--runs", str(tmp_path)]
        process = subprocess.Popen(
            [*command, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        lines = tmp_path / name / "numbers.jsonl"
        while name == "killed" and process.poll() is None:
            if lines.exists() and lines.read_text().count("\n") >= 3:
                process.kill()
                break
            time.sleep(0.01)
        process.wait(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert main(["train", "killed", "--runs", str(tmp_path), "--resume"]) == 0
    whole, killed = (load_file(tmp_path / n / "state.safetensors") for n in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())
    steps = [[e["step"] for e in numbers(tmp_path / n)] for n in ("whole", "killed")]
    assert steps[0] == steps[1]
