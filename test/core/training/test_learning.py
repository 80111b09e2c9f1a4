"""A network learns what it is shown: one synthetic batch, to a fraction of a pixel."""

import pytest
import torch
from toy_training import small_config

from pixloc_core.features.networks import create_network
from pixloc_core.training.data import create_source
from pixloc_core.training.parallel import Ranks
from pixloc_core.training.trainer import Trainer
from pixloc_core.training.two_view import TwoViewModel

OVERRIDES = (
    "data.size=[128,96]",
    "data.num_points=128",
    "data.synthetic.texture_size=64",
    "data.synthetic.num_procedural=16",
    "network.light.widths=[16,16,32]",
    "aligner.max_iterations=[8]",
    "start.smallest=0.02",
    "start.largest=0.05",
    "optimization.learning_rate=0.005",
    "optimization.steps=150",
)


@pytest.mark.slow
def test_one_synthetic_batch_is_learned_to_less_than_half_a_pixel() -> None:
    config = small_config(*OVERRIDES)
    source = create_source(config.data, "train", seed=0)
    batch, indices = source.batch([0, 1]), [0, 1]
    torch.manual_seed(0)
    network = create_network(config.network)
    model = TwoViewModel(network, config.aligner, torch.zeros(3, 6))
    trainer = Trainer(model, config, Ranks())
    errors = []
    for _ in range(config.optimization.steps):
        numbers = trainer.train_step(batch, indices).evaluation.numbers
        errors.append(float(numbers["reprojection/2"].mean()))
    assert float(numbers["reprojection/start"].mean()) > 2.0
    assert errors[0] > 1.0
    assert max(errors[-5:]) < 0.5
