"""Which extractor a config makes."""

import numpy as np
import pytest
import torch

from pixloc_core.config import load, to_dict
from pixloc_core.errors import ConfigError
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.gradients import GradientConfig, GradientExtractor
from pixloc_core.features.network_extractor import NetworkExtractor
from pixloc_core.geometry import Camera


def test_learned_features_are_the_default_and_training_free_ones_have_a_name() -> None:
    assert isinstance(create_extractor(ExtractorConfig()), NetworkExtractor)
    assert isinstance(create_extractor({"kind": "gradients"}), GradientExtractor)


def test_config_dictionary_of_a_map_makes_training_free_features_again(
    image: np.ndarray, camera: Camera
) -> None:
    gradients = GradientConfig(strides=(2, 8), blur=(1.0,))
    config = ExtractorConfig(kind="gradients", gradients=gradients)
    first = create_extractor(config)
    again = create_extractor(first.config_dict)
    assert first.strides == again.strides == (2, 8)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != create_extractor({"kind": "gradients"}).fingerprint
    for a, b in zip(first.extract(image, camera), again.extract(image, camera), strict=True):
        # OpenCV rounds by where in memory an array lies.
        torch.testing.assert_close(a.features, b.features, rtol=0, atol=1e-6)


def test_config_survives_its_dictionary() -> None:
    config = ExtractorConfig(kind="gradients", device="cuda")
    assert load(ExtractorConfig, **to_dict(config)) == config


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "sift"}, r"kind is 'sift', expected one of network, gradients"),
        ({"kind": "network", "network": {"depth": 3}}, "depth"),
        ({"kind": "network", "network": {"max_size": 0}}, r"max_size is 0, expected at least 16"),
        ({"device": "quantum"}, r"device is 'quantum', expected cpu or cuda"),
    ],
)
def test_wrong_settings_are_refused_by_name(entries: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_extractor(entries)
