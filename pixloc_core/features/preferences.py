"""What a kind of features wants of those who use it, where the settings leave it open."""

from dataclasses import dataclass

from pixloc_core.features.agreement import Agreement
from pixloc_core.geometry.interpolation import Mode


@dataclass(frozen=True)
class Preferences:
    """Settings that depend on the features; the localizer's own, where given, come first.

    Attributes:
        agreement: When a pose is believed.
        near_stride: From a single pose, levels of at most this stride are tried first, in pixels;
            0 for none.
        robust_scale: Residual beyond which a point counts less, per level from fine to coarse;
            the last entry holds for all coarser levels.
        interpolation: How maps are sampled between pixels, per level likewise.
    """

    agreement: Agreement
    near_stride: int
    robust_scale: tuple[float, ...]
    interpolation: tuple[Mode, ...]

    def interpolation_at(self, level: int) -> Mode:
        """How maps of a pyramid level, 0 = finest, are sampled."""
        return self.interpolation[min(level, len(self.interpolation) - 1)]
