"""Descriptors of map points, read off the images that observe them."""

from dataclasses import dataclass

from pixloc_core.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class PointFeatures:
    """Map points with the descriptors that an image is aligned to.

    Attributes:
        points_map: Points in the map frame, relative to the origin of the map, metres, float64.
        descriptors: One tensor per level, fine to coarse, of unit length per point, float32.
        confidences: One tensor per level, in [0, 1].
        point_idx: Index of each point in the sparse map.
    """

    points_map: Float[Tensor, "n 3"]
    descriptors: tuple[Float[Tensor, "n _"], ...]
    confidences: tuple[Float[Tensor, " n"], ...]
    point_idx: Int[Tensor, " n"]

    def __len__(self) -> int:
        return self.points_map.shape[0]
