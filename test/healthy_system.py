"""A healthy system as the doctor sees it, and ways to spoil it."""

from dataclasses import replace
from typing import Any

from pixloc_ros.doctor.findings import Level
from pixloc_ros.doctor.judge import judge
from pixloc_ros.doctor.snapshot import (
    CAMERA_INFO,
    IMAGE,
    CalibrationSeen,
    CameraSeen,
    ClockSeen,
    DiagnosticSeen,
    EdgeSeen,
    Endpoint,
    ImageSeen,
    MapSeen,
    NodeSeen,
    Settings,
    Snapshot,
    StatusSeen,
    Stream,
)
from pixloc_ros.node_config import NodeConfig
from pixloc_ros.transform_tree import IDENTITY, RigidTransform

Fault = tuple[Snapshot, Level, str, str]
SECOND = 1_000_000_000
STAMPS = tuple(100 * SECOND + k * SECOND // 10 for k in range(50))
NOW = STAMPS[-1] + SECOND // 50
DRIVER, LOCALIZER = "/camera", "/localizer"
# Optical axes in those of a robot: view forward.
FORWARD = RigidTransform.checked([0.2, 0.0, 0.3], [-0.5, 0.5, -0.5, 0.5])


def edge(parent: str, child: str, publisher: str, **changes: Any) -> EdgeSeen:
    sent = EdgeSeen(parent, child, False, frozenset({publisher}), STAMPS[-1], IDENTITY)
    return replace(sent, **changes)


MAP_ODOM = edge("map", "odom", LOCALIZER)
ODOM_BASE = edge("odom", "base_link", "/wheels")
BASE_CAMERA = edge("base_link", "optical", "/robot", static=True, transform=FORWARD, newest_ns=0)
HEALTHY_CAMERA = CameraSeen(
    Stream(
        "/camera/image",
        IMAGE,
        (Endpoint(DRIVER, IMAGE, reliable=False),),
        (Endpoint(LOCALIZER, IMAGE, reliable=False),),
        count=50,
        rate_hz=10.0,
    ),
    Stream(
        "/camera/camera_info",
        CAMERA_INFO,
        (Endpoint(DRIVER, CAMERA_INFO),),
        (Endpoint(LOCALIZER, CAMERA_INFO, reliable=False),),
        count=50,
        rate_hz=10.0,
    ),
    ImageSeen("rgb8", (640, 480), 921_600, "optical", STAMPS, (0.02,) * 50),
    CalibrationSeen("", (640, 480), "plumb_bob", "optical", STAMPS),
)
HEALTHY = Snapshot(
    seconds=5.0,
    domain="0",
    middleware="rmw_fastrtps_cpp",
    nodes=(DRIVER, LOCALIZER, "/wheels", "/robot"),
    topics={"/camera/image": (IMAGE,), "/camera/camera_info": (CAMERA_INFO,)},
    settings=Settings(NodeConfig(map="map.h5"), False, "the running node"),
    node=NodeSeen(
        LOCALIZER,
        (LOCALIZER,),
        "active",
        StatusSeen("TRACKING", "", "LOCALIZED", ""),
        (
            DiagnosticSeen(
                "localizer: localization", 0, "localized", {"map": "/maps/map.h5", "map_id": "a1"}
            ),
        ),
        heard_s=7.0,
    ),
    cameras=(HEALTHY_CAMERA,),
    edges=(MAP_ODOM, ODOM_BASE, BASE_CAMERA),
    clock=ClockSeen((), 0, NOW),
    map=MapSeen(
        "/maps/map.h5",
        map_id="a1",
        summary="56 images, 12000 points",
        extent_m=12.0,
        reprojection_px=0.8,
    ),
)


def wrong(seen: Snapshot) -> list[tuple[Level, str, str]]:
    """Level, observation and advice of all that is not well."""
    return [(f.level, f.what, f.advice) for f in judge(seen) if f.level is not Level.OK]


def camera(**changes: Any) -> Snapshot:
    return replace(HEALTHY, cameras=(replace(HEALTHY_CAMERA, **changes),))


def images(**changes: Any) -> Snapshot:
    return camera(images=replace(HEALTHY_CAMERA.images, **changes))


def image(**changes: Any) -> Snapshot:
    return camera(image=replace(HEALTHY_CAMERA.image, **changes))


def calibration(**changes: Any) -> Snapshot:
    return camera(calibration=replace(HEALTHY_CAMERA.calibration, **changes))


def frames(*edges: EdgeSeen) -> Snapshot:
    return replace(HEALTHY, edges=edges)


def node(**changes: Any) -> Snapshot:
    return replace(HEALTHY, node=replace(HEALTHY.node, **changes))


def told(**values: str) -> Snapshot:
    """The localizer says so on /diagnostics."""
    entry = DiagnosticSeen("localizer: localization", 0, "localized", values)
    return node(diagnostics=(entry,))


def settings(use_sim_time: bool = False, **parameters: Any) -> Settings:
    return Settings(NodeConfig(map="map.h5", **parameters), use_sim_time, "the running node")


def clock(seen: Snapshot = HEALTHY, *, sim: bool = False, **changes: Any) -> Snapshot:
    return replace(seen, clock=replace(seen.clock, **changes), settings=settings(use_sim_time=sim))


def names_alone(fault: Fault, alone: bool = True) -> None:
    """Hold that the fault is found, with what to do, and nothing else."""
    seen, level, what, advice = fault
    found = wrong(seen)
    match = [one for one in found if one[0] is level and what in one[1] and advice in one[2]]
    assert len(match) == 1, found
    assert not alone or len(found) == 1, found
