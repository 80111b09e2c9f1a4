"""Initial poses: as far from the truth as asked for, and always the same ones."""

import pytest
import torch
from toy_pairs import PlanePairs

from pixloc_core.config import load
from pixloc_core.errors import ConfigError
from pixloc_core.geometry import Pose
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.starts import StartConfig, draw_starts

INDICES = list(range(24))


@pytest.fixture(scope="module")
def batch() -> PairBatch:
    return PlanePairs().batch(INDICES)


def displacement(batch: PairBatch, start: Pose) -> torch.Tensor:
    """Median over the points that the query sees, as a share of the image width."""
    camera = batch.query.camera
    truth, seen = camera.world2image(batch.query_from_ref * batch.points_ref)
    found, _ = camera.world2image(start * batch.points_ref)
    distance = torch.where(seen, (found - truth).norm(dim=-1), torch.nan)
    return distance.nanmedian(-1).values / batch.query.image.shape[-1]


def test_points_are_displaced_by_shares_of_the_width_from_the_whole_range(
    batch: PairBatch,
) -> None:
    config = StartConfig(smallest=0.01, largest=0.3)
    shares = displacement(batch, draw_starts(batch, INDICES, config, seed=0))
    assert shares.min() > 0.0099
    assert shares.max() < 0.3001
    # Uniform in the logarithm: as many below the geometric mean as above.
    below = (shares < (0.01 * 0.3) ** 0.5).sum()
    assert 6 <= int(below) <= 18


def test_a_start_depends_on_seed_and_index_only(batch: PairBatch) -> None:
    config = StartConfig()
    together = draw_starts(batch, INDICES, config, seed=3)
    alone = draw_starts(PlanePairs().batch([7]), [7], config, seed=3)
    torch.testing.assert_close(together.data[7], alone.data[0], rtol=0, atol=1e-12)
    other = draw_starts(batch, INDICES, config, seed=4)
    assert (other.data - together.data).abs().amax(-1).min() > 1e-6


def test_a_ramp_begins_near_the_truth_and_grows_with_the_index(batch: PairBatch) -> None:
    config = StartConfig(smallest=0.01, largest=0.3, ramp_pairs=1000)
    early = displacement(batch, draw_starts(batch, INDICES, config, seed=0))
    assert early.max() < 0.012
    late = displacement(batch, draw_starts(batch, [i + 2000 for i in INDICES], config, seed=0))
    assert late.max() > 0.1


def test_the_reference_pose_is_the_identity(batch: PairBatch) -> None:
    start = draw_starts(batch, INDICES, StartConfig(kind="reference"), seed=0)
    torch.testing.assert_close(start.data, Pose.identity(len(batch)).data)


def test_a_start_between_shortens_rotation_and_translation_alike(batch: PairBatch) -> None:
    config = StartConfig(kind="between", between=(0.5, 0.75))
    start = draw_starts(batch, INDICES, config, seed=0)
    share = start.log() / batch.query_from_ref.log()
    assert float(share.min()) >= 0.5 - 1e-9
    assert float(share.max()) <= 0.75 + 1e-9
    torch.testing.assert_close(share, share[:, :1].expand_as(share), rtol=1e-6, atol=1e-9)


def test_a_pair_without_points_starts_at_the_truth(batch: PairBatch) -> None:
    empty = PairBatch(
        batch.reference,
        batch.query,
        batch.points_ref,
        torch.zeros_like(batch.is_point),
        batch.is_seen,
        batch.query_from_ref,
        batch.names,
    )
    start = draw_starts(empty, INDICES, StartConfig(), seed=0)
    torch.testing.assert_close(start.data, batch.query_from_ref.data, rtol=0, atol=1e-6)


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"smallest is 0\.5, expected at most largest"):
        load(StartConfig, overrides=["smallest=0.5", "largest=0.1"])
