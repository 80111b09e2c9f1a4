"""Which map images and which map points a query is aligned to: the public names."""

from pixloc_core.map.point_selection import Selection, select_points
from pixloc_core.map.reference_selection import select_references
from pixloc_core.map.selection_config import SelectionConfig
from pixloc_core.map.view_similarity import SimilarityConfig

__all__ = [
    "Selection",
    "SelectionConfig",
    "SimilarityConfig",
    "select_points",
    "select_references",
]
