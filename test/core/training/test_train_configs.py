"""The settings that ship are settings that load."""

from pathlib import Path

import pytest

from pixloc_core.config import load
from pixloc_core.features.networks import create_network
from pixloc_core.training.config import TrainConfig

FOLDER = Path(__file__).resolve().parents[3] / "config" / "train"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_a_shipped_config_loads_and_names_its_own_command(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert f"--conf config/train/{name}" in text
    given = ("weights=W.safetensors",) if "weights=W" in text else ()
    config = load(TrainConfig, FOLDER / name, overrides=given)
    if config.network.kind == "light":
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


@pytest.mark.parametrize("name", ["pixloc_cmu", "gnnet_cmu"])
def test_the_pairs_of_cmu_seasons_are_those_of_pixloc(name: str) -> None:
    sampling = load(TrainConfig, FOLDER / f"{name}.yaml").data.sampling
    assert (sampling.min_overlap, sampling.max_overlap) == (0.3, 1.0)
    assert (sampling.max_baseline, sampling.min_common) == (7.0, 50)
    assert sampling.validation_scenes == ("slice6", "slice13", "slice21")


def test_the_pairs_of_megadepth_are_those_of_pixloc() -> None:
    sampling = load(TrainConfig, FOLDER / "pixloc_megadepth.yaml").data.sampling
    assert (sampling.min_overlap, sampling.max_overlap) == (0.4, 1.0)
    assert sampling.max_baseline == 0.0


@pytest.mark.parametrize("name", ["pixloc_cmu", "gnnet_cmu", "pixloc_megadepth"])
def test_images_are_cropped_at_random_and_changed_no_further_as_in_pixloc(name: str) -> None:
    data = load(TrainConfig, FOLDER / f"{name}.yaml").data
    assert data.sampling.crop == "random"
    assert (data.sampling.max_zoom, data.sampling.rotation_share) == (1.0, 0.0)
    assert data.photometric.strength == 0.0
