"""All settings of a training run: the schema of `config/train/*.yaml`."""

import os
from dataclasses import dataclass

import torch

from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.config import check, section, setting
from pixloc_core.errors import ConfigError
from pixloc_core.features.networks import NetworkConfig
from pixloc_core.optim.levenberg_marquardt import LmConfig
from pixloc_core.optim.robust import LossConfig
from pixloc_core.training.data import DataConfig
from pixloc_core.training.gnnet import GnNetConfig
from pixloc_core.training.losses import ReprojectionLossConfig
from pixloc_core.training.starts import StartConfig


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimized: a weighted sum of the objectives."""

    reprojection_weight: float = setting(
        1.0, doc="Weight of PixLoc's loss, through the optimizer.", ge=0.0
    )
    gnnet_weight: float = setting(
        0.0, doc="Weight of GN-Net's contrastive and Gauss-Newton loss.", ge=0.0
    )
    reprojection: ReprojectionLossConfig = section(  # noqa: RUF009 (a field)
        ReprojectionLossConfig, doc="PixLoc's loss."
    )
    gnnet: GnNetConfig = section(GnNetConfig, doc="GN-Net's loss.")  # noqa: RUF009 (a field)

    def __post_init__(self) -> None:
        check(self)
        if self.reprojection_weight == 0 and self.gnnet_weight == 0:
            raise ConfigError(
                "ObjectiveConfig.reprojection_weight and gnnet_weight are 0, expected one above 0"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """Adam, its schedule, and what keeps it stable."""

    steps: int = setting(20_000, doc="Steps of the optimizer.", ge=1)
    batch_size: int = setting(4, doc="Pairs per step, over all processes together.", ge=1)
    learning_rate: float = setting(1e-3, doc="Of the network, at its peak.", ge=0.0)
    damping_rate: float = setting(
        100.0, doc="Learning rate of the damping over that of the network.", ge=0.0
    )
    largest_damping_rate: float = setting(
        1e-2, doc="Upper bound of the learning rate of the damping.", ge=0.0
    )
    weight_decay: float = setting(0.0, doc="Decoupled decay of the network's weights.", ge=0.0)
    warmup_steps: int = setting(100, doc="Steps over which the learning rate rises.", ge=0)
    schedule: str = setting(
        "cosine",
        doc="Learning rate after the warm-up: falling to final_rate, or constant.",
        choices=("cosine", "exponential", "constant"),
    )
    final_rate: float = setting(
        0.02, doc="Learning rate at the last step over that at the peak.", ge=1e-6, le=1.0
    )
    clip_norm: float = setting(
        1.0, doc="Gradients longer than this are shortened before each step.", ge=0.0
    )
    freeze_norm: bool = setting(
        False, doc="Keep the statistics of batch normalization as they are (fine-tuning)."
    )
    bf16: bool = setting(False, doc="Compute the network in bfloat16 where it is safe.")
    checkpoint: bool = setting(
        False, doc="Save memory: compute the inside of each block again for its gradient."
    )
    max_bad_steps: int = setting(
        20, doc="Give up after so many steps in a row without a finite loss and gradient.", ge=1
    )

    def __post_init__(self) -> None:
        check(self)


_MOST_WORKERS = 16


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How a run is carried out and what it leaves behind."""

    seed: int = setting(0, doc="All random numbers follow from it.", ge=0)
    device: str = setting("auto", doc="Torch device: cpu, cuda, cuda:1; auto: cuda if there.")
    workers: int = setting(
        -1,
        doc="Processes that make pairs (on a GPU: that lay out the scenes that it renders); "
        "0: the training process itself; -1: as the CPU cores allow.",
        ge=-1,
    )
    threads: int = setting(
        0, doc="CPU threads of the training process; 0: what the workers leave of the cores.", ge=0
    )
    log_every: int = setting(20, doc="Steps between two lines of numbers.", ge=1)
    validate_every: int = setting(500, doc="Steps between two validations.", ge=1)
    validation_pairs: int = setting(64, doc="Pairs of a validation.", ge=1)
    save_every: int = setting(500, doc="Steps between two checkpoints.", ge=1)
    picture_pairs: int = setting(4, doc="Pairs drawn at each validation.", ge=0)
    minutes: float = setting(0.0, doc="Stop after so many minutes; 0: no limit.", ge=0.0)

    def __post_init__(self) -> None:
        check(self)


def share_cores(config: RunConfig, device: torch.device, processes: int = 1) -> tuple[int, int]:
    """Workers and threads of each of several training processes on one machine.

    A GPU leaves the cores to the workers. A CPU needs most of them for training; more threads
    than free cores would wait for each other.
    """
    cores = max(1, len(os.sched_getaffinity(0)) // processes)
    workers = config.workers
    if workers < 0:
        workers = min(cores - 1, _MOST_WORKERS)
        workers = workers if device.type != "cpu" else -(-workers // 4)
    return workers, config.threads or max(1, cores - workers)


def training_aligner() -> AlignerConfig:
    """The aligner as PixLoc trains through it."""
    return AlignerConfig(
        max_iterations=(15,),
        robust_scale=(0.15,),
        pad=(1.0,),
        loss=LossConfig(name="cauchy"),
        optimizer=LmConfig.training(),
        outside_residual=0.0,
        restart=False,
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run."""

    network: NetworkConfig = section(  # noqa: RUF009 (a field)
        NetworkConfig, doc="The network, unless `weights` says which."
    )
    weights: str = setting("", doc="Weights file to begin with; empty: random numbers.")
    data: DataConfig = section(DataConfig, doc="Where pairs come from.")  # noqa: RUF009 (a field)
    start: StartConfig = section(StartConfig, doc="Initial poses.")  # noqa: RUF009 (a field)
    aligner: AlignerConfig = section(  # noqa: RUF009 (a field)
        training_aligner, doc="The optimizer that is trained through."
    )
    learned_damping: bool = setting(
        True, doc="Learn the damping per parameter and level with the network."
    )
    objective: ObjectiveConfig = section(  # noqa: RUF009 (a field)
        ObjectiveConfig, doc="What is minimized."
    )
    optimization: OptimizationConfig = section(  # noqa: RUF009 (a field)
        OptimizationConfig, doc="The outer optimizer."
    )
    run: RunConfig = section(RunConfig, doc="Seeds, devices, files.")  # noqa: RUF009 (a field)

    def __post_init__(self) -> None:
        if self.optimization.freeze_norm and not self.weights:
            raise ConfigError(
                "TrainConfig.weights is empty, expected a weights file: with "
                "optimization.freeze_norm the statistics of a fresh network would stay as they are"
            )
        if min(self.aligner.max_iterations) < 1:
            raise ConfigError(
                f"AlignerConfig.max_iterations is {self.aligner.max_iterations}, "
                "expected at least 1 at each level to train through"
            )
