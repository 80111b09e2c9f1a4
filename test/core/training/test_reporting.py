"""Numbers between two log lines."""

import gc
import math
import weakref

import pytest
import torch
from toy_pairs import PlanePairs
from toy_training import small_config

from pixloc_core.features.networks import create_network
from pixloc_core.training.parallel import Ranks
from pixloc_core.training.reporting import Clock, Window
from pixloc_core.training.trainer import Trainer
from pixloc_core.training.two_view import TwoViewModel


@pytest.fixture
def trainer() -> Trainer:
    config = small_config()
    torch.manual_seed(0)
    model = TwoViewModel(create_network(config.network), config.aligner, torch.zeros(3, 6))
    return Trainer(model, config, Ranks())


def test_means_are_over_pairs_and_leave_out_what_means_nothing(trainer: Trainer) -> None:
    window = Window()
    reports = []
    for indices in ([0, 1], [2]):
        reports.append(trainer.train_step(PlanePairs().batch(indices), indices))
        window.add_step(reports[-1])
    reports[0].evaluation.numbers["localized"][0] = math.nan
    means = window.means()
    losses = torch.cat([report.evaluation.numbers["loss/total"] for report in reports])
    assert means["loss/total"] == pytest.approx(float(losses.mean()))
    found = torch.cat([report.evaluation.numbers["localized"] for report in reports])
    assert means["localized"] == pytest.approx(float(found[1:].mean()))
    norms = [report.gradient_norm for report in reports]
    assert means["gradient_norm"] == pytest.approx(sum(norms) / 2)
    assert window.pairs == 3


def test_a_window_keeps_no_features(trainer: Trainer) -> None:
    window = Window()
    report = trainer.train_step(PlanePairs().batch([0, 1]), [0, 1])
    features = weakref.ref(report.evaluation.output.query[0].features)
    window.add_step(report)
    del report
    gc.collect()
    assert features() is None


def test_a_clock_tells_waiting_from_working() -> None:
    times = iter([0.0, 0.0, 2.0, 5.0, 5.0])
    clock = Clock(lambda: next(times))
    # One batch that took 2 s to come and 3 s to work on, then the end.
    assert list(clock.watch(["batch"])) == ["batch"]
    rates = clock.rates(5)
    assert rates["pairs_per_second"] == pytest.approx(1.0)
    assert rates["waiting_for_data"] == pytest.approx(0.4)
