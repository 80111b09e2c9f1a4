"""Settings of the choice of references and points."""

from dataclasses import dataclass

from pixloc_core.config import check, section, setting
from pixloc_core.geometry import Camera
from pixloc_core.map.view_similarity import SimilarityConfig


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which references and points to use."""

    num_references: int = setting(7, doc="Map images used at most.", ge=1)
    num_points: int = setting(4000, doc="Map points used at most.", ge=10)
    observations_per_point: int = setting(
        8, doc="Observations that may describe one point, the best viewed ones.", ge=1
    )
    margin: float = setting(
        0.1,
        doc="How far outside the image the prior may put a point, in parts of the longer side.",
        ge=0.0,
        le=10.0,
    )
    grid_cells: int = setting(
        16, doc="Cells along the longer side of the image, over which points are spread.", ge=1
    )
    min_track_length: int = setting(
        2, doc="Images that must have seen a point; fewer fix its depth badly.", ge=1
    )
    max_point_error: float = setting(
        4.0, doc="Largest mean reprojection error of a point.", unit="px", ge=0.0
    )
    min_common_points: int = setting(
        10, doc="Points that a map image must share with the predicted view.", ge=1
    )
    similarity: SimilarityConfig = section(  # noqa: RUF009 (a field)
        SimilarityConfig, doc="What change of view descriptors bear."
    )

    def __post_init__(self) -> None:
        check(self)

    def margin_px(self, camera: Camera) -> float:
        """`margin` in pixels of a camera."""
        return self.margin * float(camera.size.max())

    def cell_px(self, camera: Camera) -> float:
        """Side of a grid cell in pixels of a camera."""
        return float(camera.size.max()) / self.grid_cells
