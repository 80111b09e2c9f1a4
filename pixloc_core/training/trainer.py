"""One step of training: pairs in, better parameters out."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from pixloc_core.errors import CheckpointError
from pixloc_core.features.weights import Provenance, Weights
from pixloc_core.geometry import Pose
from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.config import OptimizationConfig, TrainConfig
from pixloc_core.training.gnnet import gnnet_loss
from pixloc_core.training.losses import TruePoints, reprojection_loss
from pixloc_core.training.metrics import summarize
from pixloc_core.training.pairs import PairBatch, generator_for
from pixloc_core.training.parallel import Ranks, synchronize_norms
from pixloc_core.training.run_store import RunState, describe_optimizer, restore_optimizer
from pixloc_core.training.starts import draw_starts
from pixloc_core.training.two_view import TwoViewModel, TwoViewOutput

_MODEL = "model."


@dataclass(frozen=True)
class Evaluation:
    """What the model made of a batch.

    Attributes:
        loss: What is minimized, per pair.
        numbers: Named numbers of each pair, NaN where they mean nothing.
        start: Initial poses.
        output: Features and poses.
    """

    loss: Float[Tensor, " b"]
    numbers: Mapping[str, Float[Tensor, " b"]]
    start: Pose
    output: TwoViewOutput


@dataclass(frozen=True)
class StepReport:
    """How a step went.

    Attributes:
        taken: Whether loss and gradient were finite, and the parameters moved.
        gradient_norm: Length of the gradient before it was clipped.
        learning_rate: That of the network.
        evaluation: Loss and numbers of the batch, before the step.
    """

    taken: bool
    gradient_norm: float
    learning_rate: float
    evaluation: Evaluation


class Trainer:
    """A model, its optimizer, and the number of steps done.

    Args:
        model: The model, on its device.
        config: All settings.
        ranks: The processes of the run.
    """

    def __init__(self, model: TwoViewModel, config: TrainConfig, ranks: Ranks) -> None:
        self.model = model
        self.config = config
        self.ranks = ranks
        self.step = 0
        self.best = math.inf
        self.device = next(model.parameters()).device
        if ranks.world > 1:
            synchronize_norms(model)
        if config.optimization.checkpoint:
            checkpoint_blocks(model.network)
        # Whether some outputs of the network have no part in the loss.
        self._is_partial = bool(config.aligner.levels) or not model.learns_alignment
        self._optimizer = _create_optimizer(model, config.optimization)
        self._parallel: Callable[..., TwoViewOutput] = model
        if ranks.world > 1:
            # What is not aligned leaves its damping without a gradient.
            self._parallel = DistributedDataParallel(
                model, find_unused_parameters=self._is_partial
            )

    def train_step(self, batch: PairBatch, indices: list[int]) -> StepReport:
        """Move the parameters against the gradient of one batch, if that is finite.

        Args:
            batch: The share of this process.
            indices: Index of each pair.
        """
        optimization = self.config.optimization
        self.model.train()
        if optimization.freeze_norm:
            freeze_norms(self.model)
        rate = learning_rate(optimization, self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = min(rate * group["factor"], group["largest"])
        self._optimizer.zero_grad(set_to_none=True)
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        evaluation = self.evaluate(batch, indices, model=self._parallel)
        evaluation.loss.mean().backward()  # type: ignore[no-untyped-call]
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, optimization.clip_norm or math.inf)
        # Gradients were averaged over the processes, so all of them decide alike.
        taken = bool(torch.isfinite(norm))
        if taken:
            self._optimizer.step()
        else:
            # The running statistics of the batch would stay in the network.
            for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(before)
        self.step += 1
        return StepReport(taken, float(norm), rate, evaluation)

    def evaluate(
        self,
        batch: PairBatch,
        indices: list[int],
        *,
        model: Callable[..., TwoViewOutput] | None = None,
    ) -> Evaluation:
        """Loss and numbers of a batch; differentiable unless gradients are switched off."""
        config, objective = self.config, self.config.objective
        batch = batch.to(self.device)
        start = draw_starts(batch, indices, config.start, seed=config.run.seed)
        output = (model or self.model)(batch, start)
        truth = batch.query_from_ref
        points = TruePoints.of(batch.query.camera, batch.points_ref, batch.is_point, truth, start)
        strides = self.model.network.config.strides
        used = sorted(set(self.model.config.levels) or range(len(strides)), reverse=True)
        reprojection = reprojection_loss(
            points, start, output.poses, [strides[level] for level in used], objective.reprojection
        )
        numbers = summarize(reprojection, points, truth, start, output.poses)
        loss = torch.zeros_like(reprojection.total)
        if objective.reprojection_weight > 0:
            loss = objective.reprojection_weight * reprojection.total
        numbers["loss/reprojection"] = reprojection.total.detach()
        if objective.gnnet_weight > 0:
            generators = [generator_for(config.run.seed, i, "gnnet") for i in indices]
            gnnet = gnnet_loss(output.reference, output.query, batch, objective.gnnet, generators)
            loss = loss + objective.gnnet_weight * gnnet.total
            numbers["loss/contrastive"] = gnnet.contrastive.detach()
            numbers["loss/gauss_newton"] = gnnet.gauss_newton.detach()
        numbers["loss/total"] = loss.detach()
        if self._is_partial:
            # Processes that average their gradients must all have them.
            loss = loss + 0.0 * _touch(output)
        return Evaluation(loss, numbers, start, output)

    def state(self) -> RunState:
        """Everything that changes, to be saved."""
        model = {f"{_MODEL}{name}": value for name, value in self.model.state_dict().items()}
        return RunState(self.step, self.best, model | describe_optimizer(self._optimizer))

    def restore(self, state: RunState) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: If it is of another model.
        """
        model = {
            name.removeprefix(_MODEL): value
            for name, value in state.tensors.items()
            if name.startswith(_MODEL)
        }
        try:
            self.model.load_state_dict(model)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"checkpoint is of another network ({reason})") from error
        restore_optimizer(self._optimizer, state.tensors)
        self.step, self.best = state.step, state.best

    def weights(self, provenance: Provenance) -> Weights:
        """The weights as they are now.

        Raises:
            CheckpointError: If they are not finite.
        """
        network = {
            name: value.detach().clone(memory_format=torch.contiguous_format)
            for name, value in self.model.network.state_dict().items()
        }
        return Weights(self.model.network.config, network, self.model.damping_table(), provenance)


def _touch(output: TwoViewOutput) -> Float[Tensor, ""]:
    """A number that every output of the network has a part in."""
    levels = [*output.reference, *output.query]
    parts = [level.features.mean() + level.confidence.mean() for level in levels]
    return torch.stack(parts).sum()


def learning_rate(config: OptimizationConfig, step: int) -> float:
    """Learning rate of the network at a step, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    progress = min(progress, 1.0)
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "exponential":
        return float(config.learning_rate * config.final_rate**progress)
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * falling)


def freeze_norms(module: nn.Module) -> None:
    """Let batch normalization use its statistics as they are, and keep them."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()


def checkpoint_blocks(network: nn.Module) -> None:
    """Keep only the inputs of each block for the gradient, and compute the rest again."""
    for blocks in network.children():
        if isinstance(blocks, nn.ModuleList):
            for block in blocks:
                block.forward = partial(_checkpointed, block, block.forward)


def _checkpointed(block: nn.Module, forward: Callable[..., Any], *inputs: Tensor) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    contexts = (_nothing(), _kept_statistics(block))
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: contexts)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _kept_statistics(block: nn.Module) -> Iterator[None]:
    """The second computation must not count a second time in the running statistics."""
    norms = [child for child in block.modules() if isinstance(child, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        # PyTorch leaves a recomputation by an exception as soon as it has what it needs.
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _create_optimizer(model: TwoViewModel, config: OptimizationConfig) -> torch.optim.Optimizer:
    network = {"params": list(model.network.parameters()), "factor": 1.0, "largest": math.inf}
    groups: list[dict[str, Any]] = [network]
    if len(model.damping):
        damping = {
            "params": list(model.damping.parameters()),
            "factor": config.damping_rate,
            "largest": config.largest_damping_rate,
            "weight_decay": 0.0,
        }
        groups.append(damping)
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
