"""The settings that ship are settings that load."""

from pathlib import Path

import pytest

from pixloc_core.config import load
from pixloc_core.features.networks import create_network
from pixloc_core.training.config import TrainConfig

FOLDER = Path(__file__).resolve().parents[3] / "config" / "train"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_a_shipped_config_loads_and_names_its_own_command(name: str) -> None:
    config = load(TrainConfig, FOLDER / name)
    assert f"--conf config/train/{name}" in (FOLDER / name).read_text()
    if config.weights == "" and config.network.kind == "light":
        levels = len(create_network(config.network).config.strides)
        assert len(config.aligner.pad) <= levels


def test_the_configs_of_pixloc_have_its_settings() -> None:
    config = load(TrainConfig, FOLDER / "pixloc_megadepth.yaml")
    assert config.network.unet.encoder == "vgg19"
    assert (config.optimization.learning_rate, config.optimization.batch_size) == (5e-6, 6)
    assert config.aligner.max_iterations == (15,)
    assert config.aligner.optimizer.acceptance == "always"
    assert config.start.between == (0.75, 1.0)
    assert config.objective.reprojection.success == 3.0
