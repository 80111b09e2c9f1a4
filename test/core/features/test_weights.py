"""Our weights file: nothing is lost in it, and nothing wrong gets out of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pixloc_core.cli import main
from pixloc_core.errors import CheckpointError
from pixloc_core.features.checkpoint import load_weights
from pixloc_core.features.weights import Provenance, Weights, read_weights, write_weights


def convert(*arguments: Path | str) -> int:
    return main(["weights", "convert", *map(str, arguments)])


def test_file_gives_back_what_was_written(tmp_path: Path, small_weights: Weights) -> None:
    provenance = Provenance("w.tar", "00ff", "a garden", 3, {"pad": 2})
    weights = Weights(small_weights.config, small_weights.network, None, provenance)
    write_weights(weights, tmp_path / "w.safetensors")
    back = read_weights(tmp_path / "w.safetensors")
    assert (back.config, back.provenance, back.damping) == (weights.config, provenance, None)
    assert back.fingerprint == weights.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_conversion_keeps_names_and_every_number(
    tmp_path: Path,
    official_contents: dict[str, Any],
    small_weights: Weights,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = tmp_path / "checkpoint_best.tar", tmp_path / "out.safetensors"
    torch.save(official_contents, source)
    assert convert(source, target, "--trained-on", "streets of one town") == 0
    assert "resnet18" in capsys.readouterr().out
    with safe_open(target, framework="pt") as file:
        assert set(file.keys()) == set(official_contents["model"])
        metadata = json.loads(file.metadata()["pixloc"])
    assert (metadata["network"], metadata["config"]["encoder"]) == ("unet", "resnet18")
    weights = load_weights(target)
    assert weights.fingerprint == load_weights(source).fingerprint == small_weights.fingerprint
    assert torch.equal(weights.damping, small_weights.damping)
    assert weights.provenance.trained_on == "streets of one town"
    assert len(weights.provenance.source_sha256) == 64


def test_conversion_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, official_contents: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "w.tar"
    torch.save(official_contents, source)
    cases = {
        (source, tmp_path / "out.pth"): "out.pth: expected a name that ends in .safetensors",
        (source, tmp_path / "no" / "out.safetensors"): "out.safetensors: cannot write",
        (tmp_path / "none.tar", tmp_path / "out.safetensors"): "none.tar: cannot read",
    }
    for (checkpoint, output), message in cases.items():
        assert convert(checkpoint, output) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


def test_failed_conversion_leaves_the_old_file_alone(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    target = tmp_path / "out.safetensors"
    target.write_text("precious")
    del official_contents["conf"]
    torch.save(official_contents, tmp_path / "w.tar")
    assert convert(tmp_path / "w.tar", target) == 2
    assert target.read_text() == "precious"


def test_fingerprint_follows_every_number(small_weights: Weights) -> None:
    changed = dict(small_weights.network)
    name = "uncertainty.2.0.bias"
    changed[name] = changed[name] + 1e-6
    other = Weights(small_weights.config, changed, small_weights.damping)
    assert other.fingerprint != small_weights.fingerprint


def set_metadata(source: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        contents = json.loads(file.metadata()["pixloc"])
    change(contents)
    save_file(tensors, target, metadata={"pixloc": json.dumps(contents)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "version 2, expected 1"),
        (lambda c: c.update(format="other"), "no metadata of format pixloc-weights"),
        (lambda c: c.pop("config"), "config"),
        (lambda c: c.update(network="gru"), "network is 'gru', expected one of unet, light, "),
        (lambda c: c["config"].update(encoder="vgg5"), r"UNetConfig\.encoder is 'vgg5'"),
        (lambda c: c["config"].update(depth=3), "depth"),
        (lambda c: c["provenance"].update(mood="good"), "mood"),
        (lambda c: c["config"].update(output_dim=[4, 6, 9]), "wrong shape: adaptation.2.0.weight"),
    ],
)
def test_file_that_contradicts_itself_is_refused(
    tmp_path: Path, small_weights: Weights, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    write_weights(small_weights, tmp_path / "w.safetensors")
    set_metadata(tmp_path / "w.safetensors", tmp_path / "bad.safetensors", change)
    with pytest.raises(CheckpointError, match=rf"bad\.safetensors: .*{message}"):
        read_weights(tmp_path / "bad.safetensors")


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="no metadata of format"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x10" + b"\x00" * 40])
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.safetensors: cannot read the weights"):
        load_weights(path)


def test_truncated_safetensors_are_refused(tmp_path: Path, small_weights: Weights) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(small_weights, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"w\.safetensors: cannot read the weights"):
        load_weights(path)


def test_damping_must_have_one_row_per_level(small_weights: Weights) -> None:
    with pytest.raises(CheckpointError, match=r"\(2, 6\), expected \(3, 6\)"):
        Weights(small_weights.config, small_weights.network, torch.zeros(2, 6))
