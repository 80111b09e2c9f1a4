"""Settings of the localizer node itself; those of the core are `LocalizerConfig`."""

import re
from dataclasses import dataclass

from pixloc_core.config import check, section, setting
from pixloc_core.errors import ConfigError
from pixloc_core.localizer.state_config import StateConfig

_TOPIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")


@dataclass(frozen=True, kw_only=True)
class InitialPoseConfig:
    """A first pose that is known beforehand, of the robot in the map."""

    x: float = setting(0.0, doc="Position.", unit="m")
    y: float = setting(0.0, doc="Position.", unit="m")
    z: float = setting(0.0, doc="Position.", unit="m")
    roll: float = setting(0.0, doc="Rotation about x, applied first (fixed axes).", unit="rad")
    pitch: float = setting(0.0, doc="Rotation about y, applied second.", unit="rad")
    yaw: float = setting(0.0, doc="Rotation about z, applied last.", unit="rad")

    def __post_init__(self) -> None:
        check(self)


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
    autostart: bool = setting(
        True, doc="Configure and activate at once; false where a lifecycle manager does it."
    )

    global_frame_id: str = setting("map", doc="Frame of the map.")
    odom_frame_id: str = setting("odom", doc="Frame of the odometry.")
    base_frame_id: str = setting("base_link", doc="Frame of the robot, whose pose is published.")
    camera_frame_id: str = setting(
        "", doc="Optical frame of a single camera; empty: that in the header of the image."
    )

    cameras: tuple[str, ...] = setting(
        (),
        doc="Names of the cameras of a rig, which prefix their topics: cam0 stands for cam0/image "
        "and cam0/camera_info. Empty: one camera, image and camera_info.",
    )
    sync_slop: float = setting(
        0.01, doc="Largest difference of stamps of one exposure of a rig.", unit="s", ge=0.0, le=1
    )
    masks: tuple[str, ...] = setting(
        (),
        doc="An image file for each camera, of the size of its images; where it is black, the "
        "image is not used (robot's own parts). Empty: no masks.",
    )
    image_transport: str = setting(
        "raw", doc="Type of the image topics.", choices=("raw", "compressed")
    )
    image_is_rectified: bool = setting(
        False, doc="Images are free of distortion: use P of camera_info, not K and D."
    )
    max_rate: float = setting(
        0.0, doc="Images per second that are looked at; 0: as many as can be.", unit="Hz", ge=0.0
    )

    prior_source: str = setting(
        "auto",
        doc="Where first poses come from. tf: odometry, and map -> base of somebody else; topic: "
        "every image starts at prior_pose; retrieval: the service retrieve_pose; auto: all that "
        "are there. initialpose is always heard.",
        choices=("auto", "tf", "topic", "retrieval"),
    )
    prior_max_age: float = setting(
        1.0,
        doc="Oldest prior_pose that is moved on to an image.",
        unit="s",
        ge=0.0,
    )
    retrieval_timeout: float = setting(
        5.0, doc="Longest wait for an answer of retrieve_pose.", unit="s", ge=0.1
    )
    retrieval_results: int = setting(5, doc="Map images asked of it.", ge=1, le=100)

    set_initial_pose: bool = setting(False, doc="Start at initial_pose, without being told.")
    initial_pose: InitialPoseConfig = section(  # noqa: RUF009 (a field)
        InitialPoseConfig, doc="Where to start, if set_initial_pose."
    )
    saved_pose_filepath: str = setting(
        "",
        doc="File that keeps the last pose, and odometry, for the next start in the same map; "
        "empty: none.",
    )
    save_pose_rate: float = setting(
        0.5, doc="How often it is written.", unit="Hz", ge=0.01, le=100.0
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
    path_length: int = setting(1000, doc="Poses kept in path, the newest ones.", ge=1)

    state: StateConfig = section(  # noqa: RUF009 (a field)
        StateConfig, doc="When poses are believed."
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
        is_named = all(_TOPIC_NAME.fullmatch(name) for name in self.cameras)
        if len(set(self.cameras)) < len(self.cameras) or not is_named:
            raise ConfigError(
                f"cameras is {list(self.cameras)!r}, expected different names that can begin a "
                "topic: letters, digits, _ and /"
            )
        if self.masks and len(self.masks) != max(1, len(self.cameras)):
            raise ConfigError(
                f"masks names {len(self.masks)} files, expected one for each of "
                f"{max(1, len(self.cameras))} cameras, or none"
            )

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras; a single one has the empty name."""
        return self.cameras or ("",)


# What may change while the node runs; the rest is read-only.
DYNAMIC = frozenset(
    {
        "image_is_rectified",
        "max_rate",
        "prior_source",
        "prior_max_age",
        "retrieval_timeout",
        "retrieval_results",
        "transform_tolerance",
        "transform_timeout",
    }
)
DYNAMIC_GROUPS = ("state.", "localizer.")
