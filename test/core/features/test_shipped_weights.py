"""The weights that come with the package."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from pixloc_core.errors import CheckpointError
from pixloc_core.features.checkpoint import load_weights
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.network_extractor import NetworkExtractor, NetworkExtractorConfig
from pixloc_core.features.networks import NETWORKS, kind_of
from pixloc_core.features.shipped_weights import DEFAULT, SHIPPED, find_weights
from pixloc_core.features.weights import Weights
from pixloc_core.geometry import Camera

LARGEST_MB = 16


def learned(**settings: object) -> NetworkExtractor:
    extractor = create_extractor({"kind": "network", "network": settings})
    assert isinstance(extractor, NetworkExtractor)
    return extractor


def test_the_package_holds_exactly_the_weights_of_the_table() -> None:
    folder = files("pixloc_core.features") / "shipped"
    found = {entry.name for entry in folder.iterdir() if entry.name.endswith(".safetensors")}
    assert found == {path.name for path in SHIPPED.values()}
    assert DEFAULT in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small_and_say_where_they_come_from(name: str) -> None:
    assert SHIPPED[name].stat().st_size <= LARGEST_MB * 2**20
    provenance = load_weights(name).provenance
    assert provenance.trained_on
    assert provenance.source
    assert provenance.optimizer["steps"] > 0
    # Names of data sets, no places on the machine of the training.
    told = json.dumps(vars(provenance))
    assert not [word for word in ("/home", "/tmp", "/work", "/root", "..") if word in told]


def test_without_a_name_weights_are_the_default_ones() -> None:
    by_name = learned(weights=DEFAULT)
    by_path = learned(weights=str(SHIPPED[DEFAULT]))
    assert create_extractor({}).fingerprint == by_name.fingerprint == by_path.fingerprint


def test_a_map_remembers_shipped_weights_by_name_and_the_octaves_by_number() -> None:
    remembered = create_extractor(ExtractorConfig()).config_dict
    assert remembered["network"]["weights"] == DEFAULT
    assert remembered["network"]["octaves"] == 3
    assert str(Path(__file__).anchor) not in json.dumps(remembered)
    again = create_extractor(json.loads(json.dumps(remembered)))
    assert again.fingerprint == create_extractor({}).fingerprint


def test_a_file_of_the_name_of_shipped_weights_is_meant_with_its_folder() -> None:
    assert find_weights("light") == SHIPPED["light"]
    assert find_weights("./light") == Path("light")
    assert find_weights("runs/w.safetensors") == Path("runs/w.safetensors")


@pytest.mark.parametrize("name", ["heavy", "runs/heavy.safetensors"])
def test_unknown_weights_are_refused_with_a_list_of_those_that_ship(name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        learned(weights=name)
    assert str(caught.value) == (
        f"{name}: cannot read the weights (no such file); "
        "weights that ship with the package: light (default)"
    )


def test_octaves_are_those_of_the_network_unless_they_are_given(small_weights: Weights) -> None:
    light = load_weights(DEFAULT)
    assert NETWORKS[kind_of(light.config)].octaves == 3
    assert learned().fingerprint == learned(octaves=3).fingerprint
    assert learned().fingerprint != learned(octaves=1).fingerprint
    assert learned(octaves=1).strides == light.config.strides
    unet = NetworkExtractor(small_weights, NetworkExtractorConfig())
    assert unet.strides == (1, 4, 16)
    assert unet.config_dict["network"]["octaves"] == 1


def test_default_features_have_levels_from_fine_to_far(image: np.ndarray, camera: Camera) -> None:
    """Fine enough to be accurate, coarse enough to come from afar."""
    extractor = learned()
    large = np.kron(image, np.ones((4, 4, 1), dtype=np.uint8))
    pyramid = extractor.extract(large, camera.scale(4.0))
    strides = [level.stride for level in pyramid]
    assert strides == list(extractor.strides)
    assert strides[0] <= 4
    assert strides[-1] >= 32
    for level, channels in zip(pyramid, extractor.channels, strict=True):
        assert level.channels == channels
        assert bool(level.features.isfinite().all())
        assert 0 <= float(level.confidence.min()) <= float(level.confidence.max()) <= 1
