"""`pixloc weights info`: what is said of shipped weights and of files."""

from pathlib import Path

import pytest

from pixloc_core.cli import main
from pixloc_core.features.shipped_weights import SHIPPED
from pixloc_core.features.weights import Provenance, Weights, read_weights, write_weights


def info(capsys: pytest.CaptureFixture[str], *names: str) -> dict[str, str]:
    assert main(["weights", "info", *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split("  ", 1) for line in lines)


def test_without_a_name_the_shipped_weights_are_described(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = info(capsys)
    assert told == info(capsys, "light")
    assert told["file"].strip() == str(SHIPPED["light"])
    assert told["trained on"].strip() == read_weights(SHIPPED["light"]).provenance.trained_on
    assert told["network"].strip().startswith("light (")


def test_a_file_is_described_without_what_it_does_not_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = read_weights(SHIPPED["light"])
    path = tmp_path / "mine.safetensors"
    write_weights(Weights(shipped.config, shipped.network, None, Provenance(epoch=3)), path)
    told = info(capsys, str(path))
    assert told["file"].strip() == str(path)
    assert told["trained on"].strip() == "unknown data"
    assert told["learned damping"].strip() == "no"
    assert told["epoch"].strip() == "3"
    assert not told.keys() & {"source", "source SHA-256", "optimizer"}
    assert told["fingerprint"].strip() == shipped.fingerprint


def test_unknown_weights_are_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "info", "heavy"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "light (default)" in told.err
