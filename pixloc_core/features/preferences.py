"""What a kind of features wants of those who use it, where the settings leave it open."""

from dataclasses import dataclass

from pixloc_core.features.agreement import Agreement


@dataclass(frozen=True)
class Preferences:
    """Settings that depend on the features; the localizer's own, where given, come first.

    Attributes:
        agreement: When a pose is believed.
        near_stride: From a single pose, levels of at most this stride are tried first, in pixels;
            0 for none.
    """

    agreement: Agreement
    near_stride: int
