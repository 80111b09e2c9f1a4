"""Names of topics and frames in the bags that this project writes and reads."""

from dataclasses import dataclass

from pixloc_core.config import setting


@dataclass(frozen=True, kw_only=True)
class BagLayout:
    """Topics and frames; defaults are those of the sample world and of `pixloc bag`.

    `pixloc replay` puts the name of each camera of a rig in place of `{camera}`.
    """

    image: str = setting("/camera/image/compressed", doc="JPEG images of the camera.")
    camera_info: str = setting("/camera/camera_info", doc="Calibration, one per image.")
    ground_truth: str = setting("/ground_truth", doc="True pose of the base in the map.")
    prior_pose: str = setting("/prior_pose", doc="Pose of the base in the map, of a filter.")
    tf: str = setting("/tf", doc="Moving transforms: odometry.")
    tf_static: str = setting("/tf_static", doc="Fixed transforms: the camera on the robot.")
    map_frame: str = setting("map", doc="Frame of the map.")
    odom_frame: str = setting("odom", doc="Frame that odometry starts in.")
    base_frame: str = setting("base_link", doc="Frame of the robot: x forward, y left, z up.")
    camera_frame: str = setting(
        "camera_optical", doc="Frame of the camera: x right, y down, z forward."
    )
