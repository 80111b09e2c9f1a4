"""How alike the descriptors of a right pose are: each kind of features has its own measure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """From which points, and how many of them, a pose is believed.

    Attributes:
        inlier_residual: Largest feature difference of a point that agrees with the image.
        min_score: Smallest share of points that agree, for a single pose; one with less is
            searched around.
        min_search_score: The same for the best of many hypotheses.
    """

    inlier_residual: float
    min_score: float
    min_search_score: float
