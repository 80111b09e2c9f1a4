"""A place: what stands where, and where a camera may be."""

from dataclasses import dataclass

from pixloc_core.training.synthetic.patches import Array, Patches


@dataclass(frozen=True)
class Place:
    """A place.

    Attributes:
        patches: Its surfaces.
        eyes: Lowest and highest corner (2, 3) of where cameras may be.
        targets: Lowest and highest corner (2, 3) of what they look at.
        is_indoors: Whether it has lamps rather than a sky.
        lamps: Where lamps hang (k, 3).
    """

    patches: Patches
    eyes: Array
    targets: Array
    is_indoors: bool
    lamps: Array
