"""The feature networks that there are, by name: the one place where a new one is entered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from pixloc_core.config import check, section, setting
from pixloc_core.errors import ConfigError
from pixloc_core.features.agreement import Agreement
from pixloc_core.features.feature_network import Architecture, FeatureNetwork, NetworkOutput
from pixloc_core.features.gaussian import GaussianConfig, GaussianNet
from pixloc_core.features.light import LightConfig, LightNet
from pixloc_core.features.preferences import Preferences
from pixloc_core.features.s2dnet import S2DNet, S2DNetConfig
from pixloc_core.features.unet import UNet, UNetConfig

__all__ = [
    "NETWORKS",
    "Architecture",
    "FeatureNetwork",
    "NetworkConfig",
    "NetworkOutput",
    "create_network",
    "kind_of",
]


# Descriptors of unit length: at wrong poses up to 9 % of the points are nearer than this, by day
# and night of one place or with other cameras at least 12 % are at right ones.
_PREFERENCES = Preferences(
    agreement=Agreement(inlier_residual=0.7, min_score=0.1, min_search_score=0.12),
    near_stride=8,
    robust_scale=(0.2, 0.3, 0.5),
    interpolation=("linear",),
)
# Found with the shipped weights on the real image sets (benchmarks/).
_OF_LIGHT = Preferences(
    # The best pose that was found, where wrong, agrees with up to 12 % of the points, right poses
    # of blurred images with 12 % and more. Single wrong poses, with a better one around, were
    # seen to agree with 15 %.
    agreement=Agreement(inlier_residual=0.7, min_score=0.2, min_search_score=0.125),
    near_stride=32,
    robust_scale=(0.35, 0.5),
    # Cells of two pixels are wide for what lies between them; further up it does not matter.
    interpolation=("cubic", "linear"),
)


class NetworkKind(NamedTuple):
    """One kind of network.

    Attributes:
        config: Class of its settings.
        create: Makes the network of them.
        octaves: Sizes of the image that it is given unless the settings say otherwise.
        preferences: What its features want of the localizer.
    """

    config: type[Any]
    create: Callable[[Any], FeatureNetwork]
    octaves: int = 1
    preferences: Preferences = _PREFERENCES


NETWORKS: Mapping[str, NetworkKind] = {
    "unet": NetworkKind(UNetConfig, UNet),
    "light": NetworkKind(LightConfig, LightNet, octaves=3, preferences=_OF_LIGHT),
    "s2dnet": NetworkKind(S2DNetConfig, S2DNet),
    "gaussian": NetworkKind(GaussianConfig, GaussianNet),
}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Which network, and its architecture: the section of its kind holds."""

    kind: str = setting("unet", doc="Kind of the network.", choices=tuple(NETWORKS))
    unet: UNetConfig = section(UNetConfig, doc="U-Net of PixLoc.")  # noqa: RUF009 (a field)
    light: LightConfig = section(LightConfig, doc="Lean network.")  # noqa: RUF009 (a field)
    s2dnet: S2DNetConfig = section(S2DNetConfig, doc="S2DNet.")  # noqa: RUF009 (a field)
    gaussian: GaussianConfig = section(  # noqa: RUF009 (a field)
        GaussianConfig, doc="Gaussian pyramid of the image."
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def chosen(self) -> Architecture:
        """The section of the kind."""
        sections = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: Architecture = sections[self.kind]
        return chosen


def kind_of(config: Architecture) -> str:
    """Name of the kind of network that a config belongs to.

    Raises:
        ConfigError: If it belongs to none.
    """
    for name, kind in NETWORKS.items():
        if type(config) is kind.config:
            return name
    raise ConfigError(
        f"config of class {type(config).__name__}, expected that of a network: "
        f"{', '.join(NETWORKS)}"
    )


def create_network(config: NetworkConfig | Architecture) -> FeatureNetwork:
    """Make a network with fresh weights.

    Args:
        config: Its architecture; of a `NetworkConfig`, the section of its kind.

    Raises:
        ConfigError: If the config is not that of a network.
    """
    architecture = config.chosen if isinstance(config, NetworkConfig) else config
    return NETWORKS[kind_of(architecture)].create(architecture)
