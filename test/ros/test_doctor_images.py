"""What the doctor makes of images and calibration: each fault alone, in a healthy system."""

from dataclasses import replace
from typing import Any

import pytest
from healthy_system import (
    DRIVER,
    HEALTHY,
    HEALTHY_CAMERA,
    LOCALIZER,
    STAMPS,
    Fault,
    calibration,
    camera,
    image,
    images,
    names_alone,
    settings,
)

from pixloc_ros.doctor.findings import Level
from pixloc_ros.doctor.snapshot import CAMERA_INFO, COMPRESSED, IMAGE, Endpoint, Snapshot


def nobody(**changes: Any) -> Snapshot:
    """Images that nobody ever published."""
    return images(publishers=(), count=0, **changes)


COMPRESSED_ONLY = {"/camera/image/compressed": (COMPRESSED,)}
FAULTS: dict[str, Fault] = {
    "nobody": (
        replace(HEALTHY, nodes=(), domain="7"),
        Level.ERROR,
        "no node is seen at all in domain 7",
        "ROS_DOMAIN_ID",
    ),
    "no image topic": (
        replace(nobody(), topics={"/front/image_raw": (IMAGE,)}),
        Level.ERROR,
        "nobody publishes /camera/image",
        "image_topic:=/front/image_raw image_transport:=raw (launch), or "
        "-p image_transport:=raw -r image:=/front/image_raw (by hand)",
    ),
    "several image topics": (
        replace(nobody(), topics={"/b": (IMAGE,), "/a/compressed": (COMPRESSED,)}),
        Level.ERROR,
        "nobody publishes /camera/image",
        "take one of /a/compressed (compressed), /b (raw); e.g. image_topic:=/a ",
    ),
    "compressed images of one of two cameras": (
        replace(nobody(), topics=COMPRESSED_ONLY, settings=settings(cameras=("a", "b"))),
        Level.ERROR,
        "but there is /camera/image/compressed",
        "-r CAMERA/image/compressed:=/camera/image/compressed (by hand)",
    ),
    "camera that left": (
        images(publishers=(), left=(Endpoint(DRIVER, IMAGE),), count=12),
        Level.ERROR,
        "the publisher of /camera/image (/camera) has left, after 12 messages",
        "Start it again",
    ),
    "camera that came and left": (
        images(publishers=(), count=3),
        Level.ERROR,
        "the publisher of /camera/image has left, after 3 messages",
        "Start it again",
    ),
    "calibration that left": (
        camera(infos=replace(HEALTHY_CAMERA.infos, publishers=())),
        Level.ERROR,
        "the publisher of /camera/camera_info has left, after 50 messages",
        "Start it again",
    ),
    "no camera at all": (
        replace(nobody(), topics={}),
        Level.ERROR,
        "nobody publishes /camera/image",
        "start the camera driver",
    ),
    "only compressed images": (
        replace(nobody(), topics=COMPRESSED_ONLY),
        Level.ERROR,
        "but there is /camera/image/compressed",
        "image_topic:=/camera/image image_transport:=compressed (launch), or "
        "-p image_transport:=compressed -r image/compressed:=/camera/image/compressed (by hand)",
    ),
    "only raw images": (
        nobody(topic="/camera/image/compressed", kind=COMPRESSED),
        Level.ERROR,
        "but there is /camera/image",
        "image_transport:=raw",
    ),
    "compressed topic taken for raw": (
        images(topic="/camera/image/compressed", publishers=(Endpoint(DRIVER, COMPRESSED),)),
        Level.ERROR,
        "has compressed images, the node expects raw",
        "image_topic:=/camera/image image_transport:=compressed",
    ),
    "raw topic taken for compressed": (
        images(kind=COMPRESSED),
        Level.ERROR,
        "has raw images",
        "image_topic:=/camera/image image_transport:=raw",
    ),
    "topic of another type": (
        images(publishers=(Endpoint("/talker", "std_msgs/msg/String"),)),
        Level.ERROR,
        "is of type std_msgs/msg/String",
        "another topic",
    ),
    "silent camera": (
        camera(image=None, calibration=HEALTHY_CAMERA.calibration),
        Level.ERROR,
        "has a publisher (/camera), but no image came in 5 s",
        "is the camera running",
    ),
    "reliable listener of a best-effort camera": (
        images(subscriptions=(Endpoint(LOCALIZER, IMAGE, reliable=True),)),
        Level.ERROR,
        "/camera offers best effort, /localizer wants reliable",
        "qos_overrides./camera/image.subscription.reliability to best_effort",
    ),
    "latched listener": (
        images(subscriptions=(Endpoint(LOCALIZER, IMAGE, reliable=False, latched=True),)),
        Level.ERROR,
        "wants transient local",
        "durability to volatile",
    ),
    "images too large for shared memory": (
        images(count=10, lost=40),
        Level.WARN,
        "80% of the images are lost",
        "shm.xml",
    ),
    "slow camera": (images(rate_hz=0.4, count=2), Level.WARN, "2 images in 5 s", "throttled"),
    "depth image": (image(encoding="32FC1"), Level.ERROR, "encoding '32FC1'", "colour topic"),
    "no frame": (
        image(frame_id=""),
        Level.WARN,
        "frame_id is empty",
        "camera_frame_id",
    ),
    "no stamps": (image(stamps_ns=(0,) * 50), Level.ERROR, "stamp 0", "time of exposure"),
    "stamps ahead": (
        image(ages_s=(-0.5,) * 50),
        Level.ERROR,
        "stamps are 0.5 s in the future",
        "synchronize the clocks",
    ),
    "stamps of a bag without clock": (
        image(ages_s=(1e6,) * 50),
        Level.ERROR,
        "1000000.0 s old: another time",
        "use_sim_time:=true",
    ),
    "late images": (image(ages_s=(2.5,) * 50), Level.WARN, "2.5 s old", "compressed"),
    "stamps that stand still": (
        image(stamps_ns=(STAMPS[0],) * 50),
        Level.WARN,
        "stamps do not increase",
        "one topic",
    ),
    "no calibration": (
        replace(
            camera(infos=replace(HEALTHY_CAMERA.infos, publishers=(), count=0), calibration=None),
            topics={"/other/camera_info": (CAMERA_INFO,)},
        ),
        Level.ERROR,
        "nobody publishes /camera/camera_info",
        "one of /other/camera_info",
    ),
    "silent calibration": (camera(calibration=None), Level.ERROR, "no CameraInfo", "with the"),
    "no K": (
        calibration(problem="K is all zero", size=None),
        Level.ERROR,
        "K is all zero",
        "calibrate the camera",
    ),
    "calibration of another size": (
        calibration(size=(1280, 960)),
        Level.ERROR,
        "describes images of 1280x960, but they are 640x480",
        "one resolution",
    ),
    "calibration of another frame": (
        calibration(frame_id="left"),
        Level.WARN,
        "has frame 'left', its images 'optical'",
        "another camera",
    ),
    "calibration at other times": (
        calibration(stamps_ns=(1, 2)),
        Level.WARN,
        "no CameraInfo has the stamp of an image",
        "harmless",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_alone_with_what_to_do(fault: str):
    names_alone(FAULTS[fault])
