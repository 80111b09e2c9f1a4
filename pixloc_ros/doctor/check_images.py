"""Images and calibration: are they there, do they arrive, can they be used."""

from collections.abc import Iterator, Sequence
from statistics import median

from pixloc_ros.doctor.findings import Finding, error, ok, warn
from pixloc_ros.doctor.snapshot import (
    COMPRESSED,
    IMAGE,
    CameraSeen,
    Endpoint,
    ImageSeen,
    Snapshot,
    Stream,
)
from pixloc_ros.image_conversions import ENCODINGS

_SHORT = {IMAGE: "raw", COMPRESSED: "compressed"}
_SUFFIX = "/compressed"
# Fast DDS gives shared memory this much unless a profile says otherwise.
_SHARED_MEMORY_BYTES = 512 * 1024
_LOST_SHARE = 0.05
_SLOW_HZ = 1.0
_FUTURE_S = 0.1
_OLD_S = 1.0
# Beyond this it is not delay: the clocks are different ones.
_OTHER_CLOCK_S = 30.0


def check_images(seen: Snapshot) -> Iterator[Finding]:
    """All cameras: what keeps their images from being used."""
    if not seen.cameras and seen.is_there and not seen.node.silent:
        yield warn(
            "no image was looked at: it is not known to which images the node listens",
            "once it is active it can be asked; or give --image-topic",
        )
    for camera in seen.cameras:
        stream = camera.images
        if not stream.publishers:
            yield _left(stream) if _was_there(stream) else _missing(seen, stream)
            continue
        wrong = sorted({one.kind for one in stream.publishers} - {stream.kind})
        if wrong:
            yield _wrong_type(seen, stream, wrong[0])
            continue
        yield from _check_qos(stream)
        if camera.image is None:
            yield error(
                f"{stream.topic} has a publisher ({_nodes(stream.publishers)}), but no image came "
                f"in {seen.seconds:g} s",
                "is the camera running? is the bag paused?",
            )
            continue
        yield from _check_delivery(seen, camera.image, stream)
        yield from _check_stamps(seen, camera.image, stream.topic)
        yield from _check_content(camera.image, stream)


def _was_there(stream: Stream) -> bool:
    return bool(stream.left or stream.count)


def _left(stream: Stream) -> Finding:
    name = f" ({_nodes(stream.left)})" if stream.left else ""
    return error(
        f"the publisher of {stream.topic}{name} has left, after {stream.count} messages",
        "did the camera driver or the bag end? Start it again",
    )


def _missing(seen: Snapshot, stream: Stream) -> Finding:
    """Nobody publishes the topic: is there another that is meant?"""
    topic = stream.topic
    sibling = topic.removesuffix(_SUFFIX) if stream.kind == COMPRESSED else topic + _SUFFIX
    if any(kind in _SHORT for kind in seen.topics.get(sibling, ())):
        other = IMAGE if stream.kind == COMPRESSED else COMPRESSED
        return error(
            f"nobody publishes {topic}, but there is {sibling}", _take(seen, sibling, other)
        )
    others = sorted(
        (name, kind)
        for name, kinds in seen.topics.items()
        for kind in kinds
        if kind in _SHORT and name != topic
    )
    if not others:
        return error(f"nobody publishes {topic}", "start the camera driver")
    advice = _take(seen, *others[0])
    if len(others) > 1:
        names = ", ".join(f"{name} ({_SHORT[kind]})" for name, kind in others)
        advice = f"take one of {names}; e.g. {advice}"
    return error(f"nobody publishes {topic}", advice)


def _take(seen: Snapshot, topic: str, kind: str) -> str:
    """How to give the localizer the images of a topic: in the launch file, and by hand."""
    suffix = _SUFFIX if kind == COMPRESSED else ""
    transport, cameras = _SHORT[kind], seen.settings.node.cameras
    name = "CAMERA/image" if cameras else "image"
    by_hand = f"-p image_transport:={transport} -r {name}{suffix}:={topic} (by hand)"
    # The launch file knows one camera, and appends the suffix itself.
    if cameras or not topic.endswith(suffix):
        return by_hand
    base = topic.removesuffix(suffix)
    return f"image_topic:={base} image_transport:={transport} (launch), or {by_hand}"


def _wrong_type(seen: Snapshot, stream: Stream, kind: str) -> Finding:
    if stream.kind == IMAGE and kind == COMPRESSED:
        return error(
            f"{stream.topic} has compressed images, the node expects raw ones",
            _take(seen, stream.topic, kind),
        )
    if stream.kind == COMPRESSED and kind == IMAGE:
        return error(
            f"{stream.topic} has raw images, the node expects compressed ones",
            _take(seen, stream.topic, kind),
        )
    return error(
        f"{stream.topic} is of type {kind}, expected {stream.kind}", "another topic is meant"
    )


def _check_qos(stream: Stream) -> Iterator[Finding]:
    """Offers that the subscription of the localizer does not match."""
    override = f"qos_overrides.{stream.topic}.subscription"
    for wanted in stream.subscriptions:
        for offered in stream.publishers:
            if wanted.reliable and not offered.reliable:
                yield error(
                    f"{stream.topic}: {offered.node} offers best effort, {wanted.node} wants "
                    "reliable: nothing arrives",
                    f"set parameter {override}.reliability to best_effort",
                )
            if wanted.latched and not offered.latched:
                yield error(
                    f"{stream.topic}: {offered.node} offers volatile, {wanted.node} wants "
                    "transient local: nothing arrives",
                    f"set parameter {override}.durability to volatile",
                )


def _check_delivery(seen: Snapshot, image: ImageSeen, stream: Stream) -> Iterator[Finding]:
    share = stream.lost / (stream.lost + stream.count)
    if share > _LOST_SHARE:
        large = image.num_bytes > _SHARED_MEMORY_BYTES and "fastrtps" in seen.middleware
        advice = (
            f"images of {image.num_bytes // 1024} KiB do not fit the shared memory of Fast DDS: "
            "give the camera driver FASTDDS_DEFAULT_PROFILES_FILE=.../config/shm.xml, too, or "
            "use compressed images"
            if large
            else "use compressed images, a wired network, or reliable delivery"
        )
        yield warn(f"{stream.topic}: {share:.0%} of the images are lost on the way", advice)
    if stream.rate_hz < _SLOW_HZ:
        yield warn(
            f"{stream.topic}: {stream.count} images in {seen.seconds:g} s",
            "the pose is as rare as the images; is the camera throttled?",
        )
    else:
        size = f"{image.size[0]}x{image.size[1]}" if image.size else "of unknown size"
        yield ok(f"{stream.topic}: {stream.rate_hz:.1f} images/s, {size}, {image.encoding}")


def _check_stamps(seen: Snapshot, image: ImageSeen, topic: str) -> Iterator[Finding]:
    if not all(image.stamps_ns):
        yield error(
            f"{topic}: stamp 0", "the camera driver must put the time of exposure in the header"
        )
        return
    age = median(image.ages_s)
    if abs(age) > _OTHER_CLOCK_S:
        yield error(
            f"{topic}: stamps are {_age(age)}: another time than that of this machine",
            "set use_sim_time:=true everywhere"
            if seen.clock.count
            else "synchronize the clocks (chrony); a bag needs --clock and use_sim_time:=true",
        )
    elif age < -_FUTURE_S:
        yield error(
            f"{topic}: stamps are {_age(age)}", "synchronize the clocks of the machines (chrony)"
        )
    elif age > _OLD_S:
        yield warn(
            f"{topic}: images are {_age(age)} when they arrive",
            "smaller or compressed images, a nearer machine, or synchronize the clocks",
        )
    pairs = zip(image.stamps_ns, image.stamps_ns[1:], strict=False)
    if any(later <= earlier for earlier, later in pairs):
        yield warn(
            f"{topic}: stamps do not increase",
            "two cameras or bags on one topic, or a bag that starts again",
        )


def _check_content(image: ImageSeen, stream: Stream) -> Iterator[Finding]:
    topic = stream.topic
    if stream.kind == IMAGE and image.encoding not in ENCODINGS:
        yield error(
            f"{topic}: encoding {image.encoding!r} is none of {', '.join(ENCODINGS)}",
            "take the colour topic of the camera, or convert it (image_proc)",
        )
    if stream.kind == COMPRESSED and image.size is None:
        yield error(
            f"{topic}: format {image.encoding!r} cannot be decoded",
            "JPEG or PNG; not the compressedDepth of a depth image",
        )
    if not image.frame_id:
        yield warn(
            f"{topic}: frame_id is empty",
            "set it in the camera driver, or parameter camera_frame_id",
        )


def check_calibration(seen: Snapshot) -> Iterator[Finding]:
    """All cameras: calibration there, usable, and of these images."""
    for camera in seen.cameras:
        stream, found = camera.infos, camera.calibration
        if not stream.publishers:
            yield _left(stream) if _was_there(stream) else _no_calibration(seen, stream)
        elif found is None:
            yield error(
                f"{stream.topic}: no CameraInfo came in {seen.seconds:g} s",
                "it must be published with the images",
            )
        elif found.problem:
            yield error(
                f"{stream.topic}: {found.problem}",
                "calibrate the camera (camera_calibration), give the driver the file",
            )
        else:
            yield from _check_match(camera)


def _no_calibration(seen: Snapshot, stream: Stream) -> Finding:
    others = sorted(
        name
        for name, kinds in seen.topics.items()
        if stream.kind in kinds and name != stream.topic
    )
    advice = "the camera driver must publish its calibration (camera_calibration makes one)"
    if others:
        name = "CAMERA/camera_info" if seen.settings.node.cameras else "camera_info"
        advice = (
            f"camera_info_topic:=TOPIC (launch), or -r {name}:=TOPIC (by hand), TOPIC being "
            f"one of {', '.join(others)}"
        )
    return error(f"nobody publishes {stream.topic}", advice)


def _check_match(camera: CameraSeen) -> Iterator[Finding]:
    found, image, topic = camera.calibration, camera.image, camera.infos.topic
    assert found is not None
    if image is None:
        return
    if image.size and found.size and image.size != found.size:
        yield error(
            f"{topic} describes images of {_by(found.size)}, but they are {_by(image.size)}",
            "calibration and images must have one resolution; is this the info of another "
            "camera, or of images before a resize?",
        )
        return
    if image.frame_id and found.frame_id and image.frame_id != found.frame_id:
        yield warn(
            f"{topic} has frame {found.frame_id!r}, its images {image.frame_id!r}",
            "the frame of the images is used; is this the info of another camera?",
        )
    elif all(image.stamps_ns) and not set(image.stamps_ns) & set(found.stamps_ns):
        yield warn(
            f"{topic}: no CameraInfo has the stamp of an image",
            "harmless while the calibration stays; the newest one is used",
        )
    else:
        yield ok(f"{topic}: {_by(found.size)}, {found.model or 'no distortion'}")


def _age(seconds: float) -> str:
    return f"{-seconds:.1f} s in the future" if seconds < 0 else f"{seconds:.1f} s old"


def _by(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "unknown size"


def _nodes(publishers: Sequence[Endpoint]) -> str:
    return ", ".join(sorted({one.node for one in publishers}))
