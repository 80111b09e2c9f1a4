"""Which pairs of a collection are used, and how windows are cut from their images."""

from dataclasses import dataclass

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PairSamplingConfig:
    """Which pairs of real images, and how they are cut.

    The overlap of a pair is the share of the reference's points that the query shows too.
    """

    min_overlap: float = setting(0.1, doc="Smallest overlap of a pair.", ge=0.0, le=1.0)
    max_overlap: float = setting(1.0, doc="Largest overlap of a pair.", ge=0.0, le=1.0)
    min_common: int = setting(50, doc="Points that both images of a pair must show.", ge=1)
    max_baseline: float = setting(
        0.0,
        doc="Largest distance of the cameras, in the unit of the model; 0: any.",
        ge=0.0,
    )
    validation_every: int = setting(
        8, doc="Every so many queries one is kept for validation and never trained on.", ge=2
    )
    validation_scenes: tuple[str, ...] = setting(
        (),
        doc="Names of the scenes or slices kept for validation, all queries of them; then "
        "validation_every does not count.",
    )
    crop: str = setting(
        "overlap",
        doc="Window of each image: about a point common to both, anywhere, or in the middle.",
        choices=("overlap", "random", "center"),
    )
    max_zoom: float = setting(
        1.5,
        doc="Enlargement is drawn up to this; 1: the largest window that the image has.",
        ge=1.0,
        le=8.0,
    )
    min_seen: int = setting(
        16, doc="Common points that must remain in the windows of a pair.", ge=1
    )
    rotation_share: float = setting(
        0.3, doc="Share of views turned about the centre of their camera.", ge=0.0, le=1.0
    )
    rotation_deg: tuple[float, float, float] = setting(
        (15.0, 8.0, 8.0),
        doc="Largest roll, pitch and yaw of these turns.",
        unit="deg",
        ge=0,
        le=60,
    )
    cache_images: int = setting(
        0, doc="Decoded images that each process keeps in memory; 0: none.", ge=0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.min_overlap > self.max_overlap:
            raise ConfigError(
                f"PairSamplingConfig.min_overlap is {self.min_overlap}, expected at most "
                f"max_overlap, which is {self.max_overlap}"
            )
