"""Settings of the procedural places and of the cameras in them."""

from dataclasses import dataclass

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError

PLACE_NAMES = ("street", "room", "field", "courtyard", "table", "aerial")


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Procedural places, their light, and how two cameras look at them."""

    places: tuple[str, ...] = setting(
        PLACE_NAMES, doc="Kinds of place, all as often.", choices=PLACE_NAMES
    )
    photos: str = setting(
        "", doc="Folder of photos (jpg, png) for textures; empty: procedural textures alone."
    )
    photo_share: float = setting(
        0.5, doc="Share of the surfaces that show a photo, if there are any.", ge=0.0, le=1.0
    )
    max_photos: int = setting(400, doc="Most photos that are kept in memory.", ge=1)
    num_procedural: int = setting(96, doc="Number of procedural textures.", ge=8)
    texture_size: int = setting(
        256, doc="Side of a texture, a power of two.", unit="px", ge=32, le=2048
    )
    clutter: float = setting(
        1.0, doc="Amount of foliage and small things; 0: none.", ge=0.0, le=3.0
    )
    light: float = setting(
        1.0,
        doc="How much the light differs from view to view; 0: the same flat light in all.",
        ge=0.0,
        le=1.0,
    )
    night: float = setting(0.25, doc="Share of the views by night or lamplight.", ge=0.0, le=1.0)
    shadows: float = setting(0.5, doc="Share of the pairs with cast shadows.", ge=0.0, le=1.0)
    hfov_min_deg: float = setting(
        45.0, doc="Smallest horizontal field of view.", unit="deg", ge=10.0, le=140.0
    )
    hfov_max_deg: float = setting(
        110.0, doc="Largest horizontal field of view.", unit="deg", ge=10.0, le=140.0
    )
    distorted: float = setting(
        0.25, doc="Share of the cameras with a distorting lens.", ge=0.0, le=1.0
    )
    baseline: float = setting(
        0.5, doc="Largest distance of the views, relative to the median depth.", ge=0.0, le=2.0
    )
    yaw_deg: float = setting(
        40.0, doc="Largest angle between the views' directions.", unit="deg", ge=0.0, le=90.0
    )
    roll_deg: float = setting(
        15.0, doc="Largest usual roll of a camera; few roll up to three times as far.",
        unit="deg", ge=0.0, le=60.0,
    )  # fmt: skip
    zoom: float = setting(2.0, doc="Largest ratio of the views' focal lengths.", ge=1.0, le=4.0)
    min_overlap: float = setting(
        0.3, doc="Least share of the reference's pixels that the query sees too.", ge=0.0, le=0.9
    )
    covisible: float = setting(
        0.8, doc="Share of the points that the query sees too, where possible.", ge=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.hfov_max_deg < self.hfov_min_deg:
            raise ConfigError(
                f"SyntheticConfig.hfov_max_deg is {self.hfov_max_deg}, expected at least "
                f"hfov_min_deg, {self.hfov_min_deg}"
            )
        if self.texture_size & (self.texture_size - 1):
            raise ConfigError(
                f"SyntheticConfig.texture_size is {self.texture_size}, expected a power of two"
            )
        if not self.places:
            raise ConfigError("SyntheticConfig.places is empty, expected at least one place")
