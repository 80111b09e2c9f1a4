"""Settings of the localizer node itself; those of the core are `LocalizerConfig`."""

from dataclasses import dataclass

from pixloc_core.config import check, setting
from pixloc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """Frames, topics and patience of the node. Names follow AMCL where it has them."""

    map: str = setting("", doc="Feature map file, made by `pixloc map build`.")
    weights: str = setting(
        "",
        doc="Weights file of a network, or the name of shipped weights (light); empty: those that "
        "the map was made with, from the place named there.",
    )
    device: str = setting("cpu", doc="Torch device that computes the features: cpu, cuda, cuda:1.")
    num_threads: int = setting(
        1,
        doc="Threads of the computation on the CPU; more pays only with a network and idle cores, "
        "and costs much when cores are busy. 0: one for each core.",
        ge=0,
        le=1024,
    )

    global_frame_id: str = setting("map", doc="Frame of the map.")
    odom_frame_id: str = setting("odom", doc="Frame of the odometry.")
    base_frame_id: str = setting("base_link", doc="Frame of the robot, whose pose is published.")
    camera_frame_id: str = setting(
        "", doc="Optical frame of the camera; empty: that in the header of the image."
    )

    image_transport: str = setting(
        "raw", doc="Type of the image topic.", choices=("raw", "compressed")
    )
    image_is_rectified: bool = setting(
        False, doc="Images are free of distortion: use P of camera_info, not K and D."
    )

    prior_source: str = setting(
        "auto",
        doc="What continues the last pose: odometry from /tf, nothing, or odometry if there is.",
        choices=("auto", "odometry", "last_pose"),
    )
    max_failures: int = setting(
        30, doc="Images in a row without a pose before the last one is forgotten; 0: never.", ge=0
    )
    prior_timeout: float = setting(
        30.0, doc="Time without a pose before the last one is forgotten; 0: never.", unit="s", ge=0
    )

    tf_broadcast: bool = setting(
        True, doc="Publish the transform global_frame_id -> odom_frame_id on /tf."
    )
    tf_rate: float = setting(20.0, doc="Rate of that transform.", unit="Hz", ge=0.1, le=1000.0)
    transform_tolerance: float = setting(
        0.5, doc="It is dated this long after the newest image.", unit="s", ge=0, le=60.0
    )
    transform_timeout: float = setting(
        0.2, doc="Longest wait for transforms at the stamp of an image.", unit="s", ge=0, le=10.0
    )
    tf_history: float = setting(
        10.0, doc="How long transforms are remembered.", unit="s", ge=0.1, le=3600.0
    )

    def __post_init__(self) -> None:
        check(self)
        for name in ("global_frame_id", "odom_frame_id", "base_frame_id"):
            value = getattr(self, name)
            if not value or value.startswith("/"):
                raise ConfigError(f"{name} is {value!r}, expected a frame name without slash")
        if self.odom_frame_id in (self.global_frame_id, self.base_frame_id):
            raise ConfigError(
                f"odom_frame_id is {self.odom_frame_id!r}, expected another frame than "
                "global_frame_id and base_frame_id"
            )
