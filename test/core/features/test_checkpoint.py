"""Official checkpoints: what is read from them, and what is refused."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixloc_core.errors import CheckpointError
from pixloc_core.features.checkpoint import load_weights, read_official
from pixloc_core.features.weights import Weights


def save(contents: Any, path: Path) -> Path:
    torch.save(contents, path)
    return path


def refusal(path: Path) -> str:
    """The message with which a file is refused: always one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.victim), "w"))


def test_official_checkpoint_gives_network_damping_and_provenance(
    tmp_path: Path, official_contents: dict[str, Any], small_weights: Weights
) -> None:
    weights = read_official(save(official_contents, tmp_path / "checkpoint_best.tar"))
    assert weights.config == small_weights.config
    assert weights.fingerprint == small_weights.fingerprint
    assert torch.equal(weights.damping, small_weights.damping)
    assert weights.provenance.source == "checkpoint_best.tar"
    assert weights.provenance.epoch == 12
    assert weights.provenance.trained_on == "cmu"


def test_official_layout_of_both_released_networks_is_read(
    tmp_path: Path,
    official_contents: dict[str, Any],
    official_tensors: Callable[[str], dict[str, torch.Tensor]],
) -> None:
    extractor = official_contents["conf"]["model"]["extractor"]
    released = [("cmu", "vgg16"), ("megadepth", "vgg19")]
    for experiment, encoder in released:
        official_contents["model"] = official_tensors(experiment)
        extractor |= {
            "encoder": encoder, "decoder": [64, 64, 64, 32], "output_dim": [32, 128, 128],
        }  # fmt: skip
        weights = read_official(save(official_contents, tmp_path / "w.tar"))
        assert weights.config.encoder == encoder
        for level, row in enumerate(weights.damping):
            assert torch.equal(
                row, official_contents["model"][f"optimizer.{level}.dampingnet.const"]
            )


@pytest.mark.parametrize(
    "changes", [{"pad": 3}, {"interpolation": {"pad": 3, "mode": "linear"}, "pad": 9}]
)
def test_padding_is_found_under_its_old_and_its_new_name(
    tmp_path: Path, official_contents: dict[str, Any], changes: dict[str, Any]
) -> None:
    optimizer = official_contents["conf"]["model"]["optimizer"]
    del optimizer["pad"]
    optimizer |= changes
    weights = read_official(save(official_contents, tmp_path / "w.tar"))
    assert weights.provenance.optimizer["pad"] == 3
    assert weights.provenance.optimizer["loss_fn"] == "scaled_barron(0, 0.1)"


def test_one_damping_for_all_levels_is_repeated(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    tensors = official_contents["model"]
    row = tensors.pop("optimizer.0.dampingnet.const")
    for level in (1, 2):
        del tensors[f"optimizer.{level}.dampingnet.const"]
    tensors["optimizer.dampingnet.const"] = row
    weights = read_official(save(official_contents, tmp_path / "w.tar"))
    assert torch.equal(weights.damping, row.expand(3, 6))


def test_checkpoint_without_learned_damping_has_none(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    tensors = official_contents["model"]
    for level in range(3):
        del tensors[f"optimizer.{level}.dampingnet.const"]
    assert read_official(save(official_contents, tmp_path / "w.tar")).damping is None


@pytest.mark.parametrize("place", ["eval", "conf", "extra"])
def test_pickled_code_is_refused_by_name_and_never_run(
    tmp_path: Path, official_contents: dict[str, Any], place: str
) -> None:
    victim = tmp_path / "victim"
    official_contents[place] = Malicious(victim)
    message = refusal(save(official_contents, tmp_path / "w.tar"))
    assert "refused" in message
    assert "io.open" in message
    assert not victim.exists()


def test_bare_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "w.tar"
    path.write_bytes(pickle.dumps(Malicious(victim)))
    assert "expected a file of torch.save" in refusal(path)
    assert not victim.exists()


def test_objects_of_foreign_classes_are_refused_by_name(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    official_contents["conf"] = Path("conf.yaml")
    assert "pathlib" in refusal(save(official_contents, tmp_path / "w.tar"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_truncated_file_is_refused(
    tmp_path: Path, official_contents: dict[str, Any], share: float
) -> None:
    path = save(official_contents, tmp_path / "w.tar")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "truncated or no checkpoint" in refusal(path)


def test_damaged_pickle_is_refused(tmp_path: Path, official_contents: dict[str, Any]) -> None:
    official_contents["model"] = {"extractor.a": torch.zeros(2)}
    whole, damaged = save(official_contents, tmp_path / "whole.tar"), tmp_path / "damaged.tar"
    random = np.random.default_rng(5)
    with zipfile.ZipFile(whole) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in parts if name.endswith("data.pkl")]
    for _ in range(100):
        content = bytearray(parts[name])
        # The first two bytes hold the version of the pickle.
        content[random.integers(2, len(content))] ^= random.integers(1, 256)
        with zipfile.ZipFile(damaged, "w") as archive:
            for part, data in parts.items():
                archive.writestr(part, bytes(content) if part == name else data)
        refusal(damaged)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.tar")


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "w.tar").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    assert "no checkpoint" in refusal(tmp_path / "w.tar")


def test_wrong_shapes_and_names_are_listed(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    tensors = official_contents["model"]
    tensors["extractor.adaptation.0.0.bias"] = torch.zeros(5)
    del tensors["extractor.encoder.1.0.0.weight"]
    tensors["extractor.head.weight"] = torch.zeros(1)
    message = refusal(save(official_contents, tmp_path / "w.tar"))
    assert "1 missing: encoder.1.0.0.weight" in message
    assert "1 unexpected: head.weight" in message
    assert "adaptation.0.0.bias (5,), expected (4,)" in message


def test_weights_of_another_encoder_than_stated_are_refused(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    official_contents["conf"]["model"]["extractor"]["encoder"] = "vgg19"
    assert "do not fit network unet (encoder vgg19, " in refusal(
        save(official_contents, tmp_path / "w.tar")
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder", "mobilenet_v2"),
        ("encoder", [16, 32, 64]),
        ("decoder", None),
        ("output_dim", "many"),
        ("do_average_pooling", True),
        ("decoder_norm", "nn.InstanceNorm2d"),
        ("compute_uncertainty", False),
    ],
)
def test_unknown_architectures_are_refused_by_the_name_of_the_setting(
    tmp_path: Path, official_contents: dict[str, Any], key: str, value: Any
) -> None:
    official_contents["conf"]["model"]["extractor"][key] = value
    assert key in refusal(save(official_contents, tmp_path / "w.tar"))


@pytest.mark.parametrize("key", ["model", "conf"])
def test_incomplete_checkpoints_are_refused(
    tmp_path: Path, official_contents: dict[str, Any], key: str
) -> None:
    del official_contents[key]
    assert f"no entry '{key}'" in refusal(save(official_contents, tmp_path / "w.tar"))


def test_plain_state_dict_is_refused(tmp_path: Path, official_contents: dict[str, Any]) -> None:
    assert "no entry 'conf'" in refusal(save(official_contents["model"], tmp_path / "w.tar"))


def test_diverged_weights_are_refused(tmp_path: Path, official_contents: dict[str, Any]) -> None:
    official_contents["model"]["extractor.adaptation.1.0.bias"][2] = torch.nan
    message = refusal(save(official_contents, tmp_path / "w.tar"))
    assert "1 not finite: adaptation.1.0.bias" in message


def test_damping_of_another_number_of_levels_is_refused(
    tmp_path: Path, official_contents: dict[str, Any]
) -> None:
    del official_contents["model"]["optimizer.1.dampingnet.const"]
    message = refusal(save(official_contents, tmp_path / "w.tar"))
    assert "expected the damping of 3 levels" in message
