"""Several sources as one."""

import pytest
import torch
from toy_pairs import PlanePairs

from pixloc_core.errors import ConfigError
from pixloc_core.training.collections.mixed import MixedSource

SOURCES = [PlanePairs(seed=0), PlanePairs(seed=1)]


def test_each_index_has_one_source_in_any_batch() -> None:
    mixed = MixedSource(SOURCES, [1, 3], seed=5)
    joint = mixed.batch(range(24))
    from_second = 0
    for index in range(24):
        alone = mixed.batch([index])
        assert torch.equal(joint.query.image[index], alone.query.image[0])
        assert torch.equal(joint.points_ref[index], alone.points_ref[0])
        assert joint.names[index] == f"plane {index}"
        from_second += torch.equal(alone.query.image, SOURCES[1].batch([index]).query.image)
    assert 12 <= from_second <= 23
    assert mixed.description == "25% toy planes; 75% toy planes"


def test_weights_that_make_no_sense_are_refused() -> None:
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ConfigError, match="weights of 2 sources"):
            MixedSource(SOURCES, weights, seed=0)
