"""One process or several: what the ranks of a run started by `torchrun` have to agree on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from pixloc_core.errors import ConfigError
from pixloc_core.shapes import Float, Tensor

_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: Its number.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in any process; all get the same answer."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def mean(self, values: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Mean over the processes."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world


def processes_here() -> int:
    """Training processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process is the only one of the run, or the first that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes, if `torchrun` has started any, and leave them at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # While the first process validates and saves, the others wait.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()


def find_device(name: str) -> torch.device:
    """The device that a config names; under `torchrun` each local process has its own GPU.

    Raises:
        ConfigError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"RunConfig.device is {name!r}, expected auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"RunConfig.device is {name!r}, expected auto, cpu or cuda")
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if device.index >= torch.cuda.device_count():
            raise ConfigError(
                f"RunConfig.device is {name!r}, this process would use {device}, but there are "
                f"{torch.cuda.device_count()} CUDA devices"
            )
    return device


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the batches of all processes, on any device.

    PyTorch's own works on GPUs only.
    """

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalize by the mean and variance of all processes together."""
        if not self.training:
            return super().forward(input)
        # About the running mean, the square of the mean takes few digits of the variance.
        assert self.running_mean is not None
        shift = self.running_mean.clone()
        centered = input.float() - shift[:, None, None]
        count = centered.new_tensor([input.numel() / input.shape[1]])
        sums = torch.cat((centered.sum((0, 2, 3)), centered.square().sum((0, 2, 3)), count))
        sums = _sum_over_ranks(sums)
        channels, total = input.shape[1], sums[-1].detach()
        offset = sums[:channels] / total
        variance = (sums[channels:-1] / total - offset.square()).clamp(min=0.0)
        mean = shift + offset
        self._track(mean.detach(), variance.detach() * (total / (total - 1).clamp(min=1)))
        scale = (variance + self.eps).rsqrt() * self.weight
        normalized = (centered - offset[:, None, None]) * scale[:, None, None]
        return (normalized + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _SumOverRanks(torch.autograd.Function):
    """Sum over the processes; the gradient of each summand is the sum of theirs."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(values: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return total


def synchronize_norms(module: nn.Module) -> None:
    """Replace every batch normalization in a module by one over all processes."""
    for name, child in list(module.named_children()):
        if type(child) is nn.BatchNorm2d:
            synchronized = SynchronizedBatchNorm2d(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                device=child.weight.device,
            )
            synchronized.load_state_dict(child.state_dict())
            setattr(module, name, synchronized.train(child.training))
        else:
            synchronize_norms(child)
