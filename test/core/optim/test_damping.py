"""Damping policies: what they start with and how they change."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.errors import ConfigError
from pixloc_core.optim.damping import (
    AdaptedDamping,
    AdaptiveDamping,
    ConstantDamping,
    LearnedDamping,
)

LIKE = torch.zeros(4, 6, dtype=torch.float64)


def test_learned_damping_equals_that_of_the_reference(shared_dir: Path) -> None:
    with np.load(shared_dir / "fixtures" / "f_lm.npz") as file:
        damping = LearnedDamping(torch.from_numpy(file["damping_const"]))
        expected = torch.from_numpy(file["lambda"])
    factors = damping.start(LIKE)
    torch.testing.assert_close(factors, expected.expand(4, 6), rtol=1e-12, atol=0)


def test_learned_damping_has_the_parameter_of_official_checkpoints() -> None:
    damping = LearnedDamping()
    damping.load_state_dict({"const": torch.full((6,), 0.5)})
    assert [name for name, _ in damping.named_parameters()] == ["const"]
    damping.start(LIKE).log().sum().backward()
    assert (damping.const.grad > 0).all()


def test_adaptive_damping_follows_the_gain_ratio() -> None:
    """A good step lowers it, one as bad as could be accepted raises it, a rejected one more."""
    policy = AdaptiveDamping(init=1e-2)
    gain = torch.tensor([1.0, 0.5, 0.01, -1.0], dtype=torch.float64)
    accepted = torch.tensor([True, True, True, False])
    factors = policy.update(policy.start(LIKE), accepted, gain)[:, 0] / policy.init
    assert factors[0].item() == pytest.approx(policy.down)
    assert factors[1].item() == pytest.approx(1.0)
    assert 1.5 < factors[2].item() < 2.0
    assert factors[3].item() == pytest.approx(policy.up)


def test_adaptive_damping_stays_within_its_bounds() -> None:
    policy = AdaptiveDamping(smallest=1e-3, largest=1e2)
    gain = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    factors = policy.start(LIKE)
    for _ in range(20):
        factors = policy.update(factors, gain > 0, gain)
    assert factors[:, 0].tolist() == [1e-3, 1e-3, 1e2, 1e2]


CONST = torch.tensor([0.5, -0.2, 0.0, -1.0, 0.3, 0.1])


def test_adapted_damping_starts_as_learned_and_moves_as_the_adaptive_one() -> None:
    adaptive = AdaptiveDamping()
    policy = AdaptedDamping(CONST, adaptive)
    start = policy.start(LIKE)
    assert torch.equal(start, LearnedDamping(CONST).start(LIKE))
    gain = torch.tensor([1.0, 0.5, 0.01, -1.0], dtype=torch.float64)
    accepted = torch.tensor([True, True, True, False])
    scale = policy.update(start, accepted, gain) / start
    alone = adaptive.update(adaptive.start(LIKE), accepted, gain) / adaptive.init
    torch.testing.assert_close(scale, alone.expand(4, 6))


def test_adapted_damping_keeps_its_ratios_and_its_bounds() -> None:
    adaptive = AdaptiveDamping(smallest=1e-3, largest=1e2)
    policy = AdaptedDamping(CONST, adaptive)
    gain = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    start = factors = policy.start(LIKE)
    for _ in range(30):
        factors = policy.update(factors, gain > 0, gain)
    ratios = factors / factors[:, :1]
    torch.testing.assert_close(ratios, start / start[:, :1])
    torch.testing.assert_close(factors[:2].amax(-1), LIKE[:2, 0] + adaptive.smallest)
    torch.testing.assert_close(factors[2:].amin(-1), LIKE[2:, 0] + adaptive.largest)


def test_adapted_damping_without_adaptation_is_the_learned_one() -> None:
    """The policy of PixLoc at test time."""
    adaptive = AlignerConfig.reference().damping
    policy = AdaptedDamping(CONST, adaptive)
    start = policy.start(LIKE)
    accepted = torch.tensor([True, False, True, False])
    assert torch.equal(policy.update(start, accepted, LIKE[:, 0]), start)


@pytest.mark.parametrize("policy", [ConstantDamping(0.3), LearnedDamping()])
def test_damping_without_adaptation_does_not_change(
    policy: ConstantDamping | LearnedDamping,
) -> None:
    factors = policy.start(LIKE)
    accepted = torch.tensor([True, False, True, False])
    torch.testing.assert_close(policy.update(factors, accepted, LIKE[:, 0]), factors)


def test_dampings_that_make_no_sense_are_config_errors() -> None:
    with pytest.raises(ConfigError, match=r"ConstantDamping\.factor is -1\.0"):
        ConstantDamping(-1.0)
    with pytest.raises(ConfigError, match=r"AdaptiveDamping\.smallest is 1.0, expected at most"):
        AdaptiveDamping(smallest=1.0, largest=0.5)
    with pytest.raises(ConfigError, match=r"AdaptiveDamping\.up is 0.5, expected at least 1"):
        AdaptiveDamping(up=0.5)
