"""From settings to batches: which pairs, made where, in which order."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from pixloc_core.config import check, section, setting
from pixloc_core.errors import ConfigError, PixlocError
from pixloc_core.training.collections.source import PairSamplingConfig
from pixloc_core.training.pairs import PairBatch, PairSource, Split, StagedSource
from pixloc_core.training.photometric import PhotometricConfig
from pixloc_core.training.synthetic.synthetic_config import SyntheticConfig

if TYPE_CHECKING:
    from pixloc_core.training.collections.image_collection import ImageCollection
    from pixloc_core.training.collections.source import CollectionSource

# Validation takes its pairs from indices that training never reaches.
_FIRST_VALIDATION_INDEX = 1 << 40


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where training pairs come from."""

    kind: str = setting(
        "synthetic",
        doc="Procedural scenes, a COLMAP model with its images, or a preprocessed data set.",
        choices=("synthetic", "colmap", "cmu", "megadepth"),
    )
    size: tuple[int, int] = setting(
        (320, 240), doc="Width and height of the training images.", unit="px", ge=32
    )
    num_points: int = setting(256, doc="Points per pair.", ge=16)
    sfm: str = setting("", doc="kind colmap: folder of the COLMAP model.")
    images: str = setting("", doc="kinds colmap, cmu, megadepth: folder of the images.")
    pairs: str = setting(
        "", doc="kinds cmu, megadepth: folder that `pixloc preprocess` wrote, or PixLoc's own."
    )
    synthetic_share: float = setting(
        0.0,
        doc="Share of synthetic pairs among the real ones: a small map is not the world.",
        ge=0.0,
        le=1.0,
    )
    photo_share: float = setting(
        0.0,
        doc="Share of pairs that show a photo of data.synthetic.photos as a wall.",
        ge=0.0,
        le=1.0,
    )
    sampling: PairSamplingConfig = section(  # noqa: RUF009 (a field)
        PairSamplingConfig, doc="Which pairs of real images, and how they are cut."
    )
    photometric: PhotometricConfig = section(  # noqa: RUF009 (a field)
        PhotometricConfig, doc="Light, camera and weather, drawn anew for each image."
    )
    synthetic: SyntheticConfig = section(  # noqa: RUF009 (a field)
        SyntheticConfig, doc="Procedural scenes."
    )

    def __post_init__(self) -> None:
        check(self)
        if self.synthetic_share + self.photo_share > 1:
            raise ConfigError(
                f"DataConfig.synthetic_share and photo_share are {self.synthetic_share:g} and "
                f"{self.photo_share:g}, expected a sum of at most 1"
            )


def create_source(
    config: DataConfig, split: Split, *, seed: int, device: torch.device | str = "cpu"
) -> PairSource:
    """Open the pairs that a config names.

    Args:
        config: The settings.
        split: Pairs to train on, or others to validate on.
        seed: Seed of the run.
        device: Where synthetic scenes are rendered.

    Raises:
        ConfigError: If a folder is not given, or fisheye images are mixed with synthetic ones.
        PixlocError: If it cannot be used.
    """
    from pixloc_core.training.collections.mixed import MixedSource

    walls, places = config.photo_share, config.synthetic_share
    sources: list[PairSource] = []
    shares = []
    if config.kind == "synthetic":
        places = 1 - walls
    else:
        real = _create_real(config, split, seed)
        # Validation asks how good the features are on the real images.
        if split == "validation":
            return real
        if real.is_fisheye and walls + places > 0:
            raise ConfigError(
                f"data.synthetic_share is {places:g} and data.photo_share {walls:g}, expected 0 "
                f"for the fisheye cameras of {real.description}: synthetic views have other lenses"
            )
        sources.append(real)
        # Rounding must not make a share of nothing negative.
        shares.append(max(0.0, 1 - walls - places))
    if places > 0:
        # Sources that are mixed make their pairs in one place.
        where = "cpu" if sources or walls > 0 else device
        sources.append(_create_synthetic(config, seed, where))
        shares.append(places)
    if walls > 0:
        sources.append(_create_walls(config, seed))
        shares.append(walls)
    return sources[0] if len(sources) == 1 else MixedSource(sources, shares, seed=seed)


def _create_real(config: DataConfig, split: Split, seed: int) -> "CollectionSource":
    from pixloc_core.training.collections.source import CollectionSource

    return CollectionSource(
        _open_collections(config),
        config.sampling,
        config.photometric,
        size=config.size,
        num_points=config.num_points,
        split=split,
        seed=seed,
    )


def _create_synthetic(config: DataConfig, seed: int, device: torch.device | str) -> PairSource:
    from pixloc_core.training.synthetic.source import SyntheticSource

    return SyntheticSource(
        config.synthetic,
        size=config.size,
        num_points=config.num_points,
        photometric=config.photometric,
        seed=seed,
        device=device,
    )


def _create_walls(config: DataConfig, seed: int) -> PairSource:
    from pixloc_core.training.synthetic.photo_walls import PhotoWallSource

    if not config.synthetic.photos:
        raise ConfigError(
            "data.synthetic.photos is empty, expected a folder of photos for data.photo_share="
            f"{config.photo_share:g}"
        )
    return PhotoWallSource(
        config.synthetic,
        size=config.size,
        num_points=config.num_points,
        photometric=config.photometric,
        seed=seed,
    )


def _open_collections(config: DataConfig) -> Sequence["ImageCollection"]:
    from pixloc_core.training.collections.cmu import open_cmu
    from pixloc_core.training.collections.colmap import open_colmap
    from pixloc_core.training.collections.megadepth import open_megadepth

    listed = "sfm" if config.kind == "colmap" else "pairs"
    for name in (listed, "images"):
        if not getattr(config, name):
            raise ConfigError(
                f"data.{name} is empty, expected a folder for data.kind={config.kind}"
            )
    if config.kind == "colmap":
        return (open_colmap(config.sfm, config.images),)
    open_files = open_cmu if config.kind == "cmu" else open_megadepth
    return open_files(config.pairs, config.images)


class _Batches(Dataset[Any]):
    """Item k is the share of this process in the batch of step k, or the first part of it.

    What a worker process cannot make it hands over as a value: raised there, an error would
    reach the user as the text of a traceback.
    """

    def __init__(self, make: Callable[[Sequence[int]], Any], per_step: int, share: range) -> None:
        self._make = make
        self._per_step = per_step
        self._share = share

    def __getitem__(self, step: int) -> Any:
        try:
            return self._make(step_indices(step, self._per_step, self._share))
        except PixlocError as error:
            return error


def step_indices(step: int, per_step: int, share: Sequence[int]) -> list[int]:
    """Indices of the pairs of a step that one process works on."""
    return [step * per_step + place for place in share]


def rank_share(batch_size: int, rank: int, world: int) -> range:
    """Places in each batch that one of several processes works on.

    Raises:
        ConfigError: If the batch cannot be divided.
    """
    if batch_size % world:
        raise ConfigError(
            f"OptimizationConfig.batch_size is {batch_size}, expected a multiple of the "
            f"{world} processes"
        )
    each = batch_size // world
    return range(rank * each, (rank + 1) * each)


def iterate_batches(
    source: PairSource,
    steps: range,
    per_step: int,
    share: range,
    *,
    workers: int,
    staged: bool = False,
) -> Iterator[PairBatch]:
    """Batches of consecutive steps, made ahead of time by other processes.

    Args:
        source: Where they come from.
        steps: Which steps.
        per_step: Pairs per step of all processes.
        share: Places in each batch of this process.
        workers: Processes that make pairs; 0: this one, on demand.
        staged: Leave the second part of a `StagedSource` to this process and its device.

    Raises:
        PixlocError: If a pair cannot be made.
    """
    parts = source if staged and isinstance(source, StagedSource) else None
    loader = DataLoader(
        _Batches(source.batch if parts is None else parts.begin, per_step, share),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        worker_init_fn=_calm_worker if workers else None,
        prefetch_factor=4 if workers else None,
    )
    for batch in loader:
        if isinstance(batch, PixlocError):
            raise batch
        yield batch if parts is None else parts.finish(batch)


def validation_indices(count: int, batch_size: int) -> Iterator[list[int]]:
    """Indices of the pairs of a validation, always the same ones, in batches."""
    first = _FIRST_VALIDATION_INDEX
    for begin in range(0, count, batch_size):
        yield list(range(first + begin, first + min(begin + batch_size, count)))


def _calm_worker(_: int) -> None:
    # One thread each: the workers are many, and the training process needs its cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # Ctrl+C at the terminal reaches them, too; the training process decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
