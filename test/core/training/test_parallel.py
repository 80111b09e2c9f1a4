"""What several processes and frozen or checkpointed networks have in common: same results."""

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_pairs import PlanePairs
from toy_training import small_config

from pixloc_core.config import load
from pixloc_core.errors import ConfigError
from pixloc_core.features.networks import create_network
from pixloc_core.features.weights import Provenance, write_weights
from pixloc_core.training import parallel
from pixloc_core.training.config import (
    OptimizationConfig,
    RunConfig,
    TrainConfig,
    share_cores,
)
from pixloc_core.training.data import (
    create_source,
    iterate_batches,
    rank_share,
    step_indices,
    validation_indices,
)
from pixloc_core.training.loop import create_model
from pixloc_core.training.parallel import Ranks, SynchronizedBatchNorm2d, synchronize_norms
from pixloc_core.training.trainer import Trainer, learning_rate
from pixloc_core.training.two_view import TwoViewModel

PAIRS = PlanePairs()


def create_trainer(*overrides: str) -> Trainer:
    config = small_config(*overrides)
    return Trainer(create_model(config, torch.device("cpu")), config, Ranks())


def test_checkpointed_blocks_give_the_same_gradients_and_statistics() -> None:
    plain, checkpointed = create_trainer(), create_trainer("optimization.checkpoint=true")
    for step in range(3):
        for trainer in (plain, checkpointed):
            trainer.train_step(PAIRS.batch([step, step + 1]), [step, step + 1])
    state, other = plain.model.state_dict(), checkpointed.model.state_dict()
    assert other.keys() == state.keys()
    for name, value in other.items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-5)
    assert int(other["network.encoder.0.0.large.norm.num_batches_tracked"]) == 6
    # What is saved of it can be used and gone on from.
    assert (
        checkpointed.weights(Provenance()).network.keys()
        == plain.weights(Provenance()).network.keys()
    )
    create_trainer("optimization.checkpoint=true").restore(checkpointed.state())


def test_frozen_norms_keep_their_statistics_and_their_weights_still_learn(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(create_trainer().weights(Provenance()), path)
    trainer = create_trainer("optimization.freeze_norm=true", f"weights={path}")
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train_step(PAIRS.batch([0, 1]), [0, 1])
    after = trainer.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any("running" in name for name in changed)
    assert any("norm.weight" in name for name in changed)


def test_gradients_are_clipped_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = create_trainer("optimization.clip_norm=0.001")
    seen = []

    def note(optimizer: torch.optim.Optimizer) -> None:
        groups = optimizer.param_groups
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        seen.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    report = trainer.train_step(PAIRS.batch([0, 1]), [0, 1])
    assert report.gradient_norm > 0.1
    assert seen == pytest.approx([0.001], rel=1e-3)


def test_half_precision_changes_the_loss_little_and_trains() -> None:
    plain, half = create_trainer(), create_trainer("optimization.bf16=true")
    batch = PAIRS.batch([0, 1])
    losses = [t.train_step(batch, [0, 1]).evaluation.loss.detach() for t in (plain, half)]
    assert not torch.equal(*losses)
    torch.testing.assert_close(*losses, rtol=0.3, atol=0.1)


def test_damping_learns_at_its_own_bounded_rate() -> None:
    trainer = create_trainer("optimization.learning_rate=0.0001", "optimization.warmup_steps=0")
    trainer.train_step(PAIRS.batch([0, 1]), [0, 1])
    table = trainer.model.damping_table()
    assert table is not None
    # The first step of Adam is as long as the learning rate.
    assert float(table.abs().max()) == pytest.approx(0.01, rel=1e-2)


def test_damping_that_is_not_learned_stays_out_of_the_weights() -> None:
    network = create_network(small_config().network)
    assert TwoViewModel(network, small_config().aligner).damping_table() is None


def test_synchronized_norms_are_exact_in_half_precision_and_far_from_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One process: the sum over all of them is its own.
    monkeypatch.setattr(parallel, "_sum_over_ranks", lambda sums: sums)
    plain, synchronized = nn.BatchNorm2d(4), SynchronizedBatchNorm2d(4)
    image = 3 + 0.5 * torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        torch.testing.assert_close(synchronized(image), plain(image), rtol=0, atol=5e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synchronized.state_dict()[name], value)
    half = synchronized(image.bfloat16()).detach()
    assert half.dtype == torch.bfloat16
    assert float(half.float().std()) == pytest.approx(1.0, abs=5e-3)


def test_synchronized_norms_stay_on_the_device_of_the_network() -> None:
    with torch.device("meta"):
        network = create_network(small_config().network)
    synchronize_norms(network)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_gnnet_alone_looks_at_the_alignment_without_learning_from_it() -> None:
    trainer = create_trainer(
        "objective.reprojection_weight=0", "objective.gnnet_weight=1", "objective.gnnet.pad=1"
    )
    before = trainer.model.damping_table()
    report = trainer.train_step(PAIRS.batch([0, 1]), [0, 1])
    assert report.taken
    assert not report.evaluation.output.poses[-1].requires_grad
    after = trainer.model.damping_table()
    assert before is not None
    assert after is not None
    assert torch.equal(before, after)


def test_synchronized_norms_keep_names_and_act_alike_when_evaluated() -> None:
    network = create_network(small_config().network).eval()
    image = torch.rand(1, 3, 64, 96)
    expected = network(image)
    names = list(network.state_dict())
    synchronize_norms(network)
    assert sum(isinstance(m, SynchronizedBatchNorm2d) for m in network.modules()) > 5
    assert list(network.state_dict()) == names
    for found, wanted in zip(network(image), expected, strict=True):
        torch.testing.assert_close(found.features, wanted.features)


def test_processes_share_each_batch_without_gap_or_overlap() -> None:
    shares = [step_indices(7, 6, rank_share(6, rank, 3)) for rank in range(3)]
    assert shares == [[42, 43], [44, 45], [46, 47]]
    with pytest.raises(ConfigError, match="batch_size is 4, expected a multiple of the 3"):
        rank_share(4, 0, 3)


def test_workers_make_the_same_batches_in_the_same_order() -> None:
    alone = list(iterate_batches(PAIRS, range(3, 6), 2, range(2), workers=0))
    ahead = list(iterate_batches(PAIRS, range(3, 6), 2, range(2), workers=2))
    assert [batch.names for batch in ahead] == [
        ("plane 6", "plane 7"),
        ("plane 8", "plane 9"),
        ("plane 10", "plane 11"),
    ]
    for a, b in zip(alone, ahead, strict=True):
        assert torch.equal(a.query.image, b.query.image)
        assert torch.equal(a.query_from_ref.data, b.query_from_ref.data)


def test_scenes_laid_out_by_workers_and_rendered_here_are_the_same() -> None:
    overrides = ("data.size=[64,48]", "data.num_points=32", "data.synthetic.texture_size=32")
    data = small_config(*overrides, "data.synthetic.num_procedural=8").data
    source = create_source(data, "train", seed=0)
    whole = iterate_batches(source, range(2), 2, range(2), workers=0)
    staged = iterate_batches(source, range(2), 2, range(2), workers=1, staged=True)
    for a, b in zip(whole, staged, strict=True):
        assert a.names == b.names
        assert torch.equal(a.query.image, b.query.image)
        assert torch.equal(a.points_ref, b.points_ref)


def test_cores_are_shared_by_workers_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16))
    assert share_cores(RunConfig(), gpu) == (15, 1)
    assert share_cores(RunConfig(), cpu) == (4, 12)
    assert share_cores(RunConfig(), gpu, processes=4) == (3, 1)
    assert share_cores(RunConfig(workers=3, threads=5), cpu) == (3, 5)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(2))
    assert share_cores(RunConfig(), cpu) == (1, 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(1))
    assert share_cores(RunConfig(), cpu) == (0, 1)


def test_validation_has_its_own_pairs() -> None:
    batches = list(validation_indices(5, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert min(min(batch) for batch in batches) > 10**9 * 64


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    config = OptimizationConfig(
        steps=110, warmup_steps=10, learning_rate=1.0, final_rate=0.1, schedule="cosine"
    )
    rates = [learning_rate(config, step) for step in range(120)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[60] == pytest.approx(0.55)
    assert rates[110:] == pytest.approx([0.1] * 10)
    exponential = OptimizationConfig(
        steps=100, warmup_steps=0, learning_rate=1.0, final_rate=0.01, schedule="exponential"
    )
    assert learning_rate(exponential, 50) == pytest.approx(0.1)


def test_an_objective_without_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one above 0"):
        load(TrainConfig, overrides=["objective.reprojection_weight=0"])
