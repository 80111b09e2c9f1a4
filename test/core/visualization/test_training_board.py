"""A run on TensorBoard: what is written can be read, and pictures show what they should."""

import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_pairs import PlanePairs
from toy_training import small_config

from pixloc_core.features.networks import create_network
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.parallel import Ranks
from pixloc_core.training.trainer import Evaluation, Trainer
from pixloc_core.training.two_view import TwoViewModel
from pixloc_core.visualization.training_board import TrainingBoard, draw_pair

GREEN = (60, 220, 60)


@pytest.fixture(scope="module")
def batch() -> PairBatch:
    return PlanePairs().batch([0, 1])


@pytest.fixture(scope="module")
def evaluation(batch: PairBatch) -> Evaluation:
    config = small_config("start.smallest=0.05", "start.largest=0.1")
    torch.manual_seed(0)
    network = create_network(config.network)
    model = TwoViewModel(network, config.aligner, torch.zeros(3, 6)).eval()
    with torch.no_grad():
        return Trainer(model, config, Ranks()).evaluate(batch, [0, 1])


def test_numbers_and_pictures_can_be_read_again(
    tmp_path: Path, batch: PairBatch, evaluation: Evaluation
) -> None:
    board = TrainingBoard(tmp_path)
    board.on_numbers(3, "train", {"loss/total": 0.5, "unknown": math.nan})
    board.on_pictures(3, batch, evaluation)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["train/loss/total"]
    [point] = events.Scalars("train/loss/total")
    assert (point.step, point.value) == (3, 0.5)
    assert events.Tags()["images"] == ["pair 0", "pair 1"]
    [picture] = events.Images("pair 0")
    # Reference, query, and one confidence map per level, side by side.
    assert (picture.width, picture.height) == (96 * 5, 64)


def test_a_picture_shows_the_ends_of_the_points_in_the_query(
    batch: PairBatch, evaluation: Evaluation
) -> None:
    picture = draw_pair(batch, evaluation, 1)
    query = picture[:, 96:192].reshape(-1, 3)
    assert (query == torch.tensor(GREEN).numpy()).all(-1).sum() > 20
    # Confidences are drawn as levels of one colour map, not as the image.
    assert picture[:, 192:].std() > 0


def test_a_board_that_cannot_be_written_gives_up_quietly(tmp_path: Path) -> None:
    board = TrainingBoard(tmp_path)

    class Full:
        def __getattr__(self, _: str) -> None:
            raise OSError(28, "No space left on device")

    board._writer = Full()
    board.on_numbers(1, "train", {"loss/total": 1.0})
    board.on_numbers(2, "train", {"loss/total": 1.0})
    board.close()
