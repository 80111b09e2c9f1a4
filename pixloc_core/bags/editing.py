"""Cut, join, repeat, delay and thin out bags, for tests of what happens to a robot.

Where two stretches that do not follow each other are joined, the robot is kidnapped: images and
ground truth jump, while stamps and odometry go on as if nothing had happened.
"""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Writer

from pixloc_core.bags import messages
from pixloc_core.bags.edit_plan import BagEdit, Cut, Stretch, to_ns, write_cuts
from pixloc_core.bags.reader import STAMP_PLACE, BagReader, RawMessage, stamp_format
from pixloc_core.bags.topics import BagLayout
from pixloc_core.bags.trajectory import NANOSECONDS, Stamps, Trajectory
from pixloc_core.bags.writer import new_writer, offered_qos
from pixloc_core.errors import FormatError
from pixloc_core.geometry import Pose

logger = logging.getLogger(__name__)

_ODOMETRY = "nav_msgs/msg/Odometry"
_CLOCK = "rosgraph_msgs/msg/Clock"


@dataclass(frozen=True)
class _Placed:
    """One stretch in the result.

    Attributes:
        stretch: What is kept.
        offset_s: Where its begin lies, in seconds since the begin of the result.
        correction: `new_odom_from_odom`: lets odometry go on from the stretch before; None: it
            stays as it is.
    """

    stretch: Stretch
    offset_s: float
    correction: Pose | None


def edit_bag(
    source: BagReader, target: Path, edit: BagEdit, layout: BagLayout | None = None
) -> tuple[Cut, ...]:
    """Write a changed copy of a bag, with a list of its cuts beside the messages.

    Args:
        source: The bag; it stays as it is.
        target: Folder of the new one.
        edit: What to change.
        layout: Topics and frames.

    Returns:
        The cuts.

    Raises:
        FormatError: If nothing is left, the folder exists already, or what is to be left out or
            to be late is not in the bag.
    """
    layout = layout or BagLayout()
    editor = _Editor(source, edit, layout)
    order = sorted(editor.schedule(), key=lambda entry: entry[:2])
    if not order:
        raise FormatError(f"{source.path}: nothing is left of it")
    with new_writer(target) as writer:
        editor.write(writer, order)
        cuts = editor.cuts()
        write_cuts(Path(writer.path), cuts)
    return cuts


class _Editor:
    def __init__(self, source: BagReader, edit: BagEdit, layout: BagLayout) -> None:
        self._source, self._edit, self._layout = source, edit, layout
        self._store = messages.typestore()
        self._topics = self._usable_topics()
        self._check_topics()
        self._raw = list(source.raw(list(self._topics)))
        self._stamps = [self._stamp(raw) for raw in self._raw]
        self._odometry = self._poses(layout.tf, layout.odom_frame, layout.base_frame)
        self._placed = self._place()
        self._check_outages_end()

    def _usable_topics(self) -> dict[str, str]:
        usable = {}
        for topic, kind in self._source.topics.items():
            if kind in self._store.fielddefs and kind != _CLOCK:
                usable[topic] = kind
            else:
                logger.warning("%s: left out, type %s cannot be edited", topic, kind)
        return usable

    def _check_topics(self) -> None:
        """What is left out or late must be there; a slip of the pen would change nothing.

        Raises:
            FormatError: If it is not.
        """
        known = f"the bag holds {', '.join(sorted(self._topics))}"
        for outage in self._edit.outages:
            if outage.topic and outage.topic not in self._topics:
                raise FormatError(
                    f"{self._source.path}: no topic {outage.topic!r} to leave out, {known}"
                )
        wants_images = any(not outage.topic for outage in self._edit.outages)
        wants_images |= self._edit.image_latency_s > 0
        if wants_images and not any(map(self._is_image, self._topics)):
            raise FormatError(
                f"{self._source.path}: no images or calibration on {self._layout.image!r} or "
                f"{self._layout.camera_info!r}, {known}"
            )

    def _check_outages_end(self) -> None:
        last = self._placed[-1]
        end_s = last.offset_s + last.stretch.length_s
        for outage in self._edit.outages:
            if outage.begin_s >= end_s:
                raise FormatError(
                    f"{self._source.path}: outage {outage.begin_s:g}:{outage.end_s:g} begins "
                    f"behind the end of the result ({end_s:.1f} s)"
                )

    def _poses(self, topic: str, parent: str, child: str) -> Trajectory:
        if topic not in self._topics:
            return Trajectory.from_samples({})
        return self._source.transforms(topic, parent, child)

    def _place(self) -> list[_Placed]:
        """Stretches one after the other, and what joins their odometry."""
        duration = self._source.duration_s
        # The last message belongs to the bag, too.
        whole = duration + 1e-9
        stretches = self._edit.stretches or (Stretch(0.0, whole),)
        placed: list[_Placed] = []
        offset, correction = 0.0, None
        for stretch in stretches * self._edit.repeats:
            if stretch.begin_s > duration:
                raise FormatError(
                    f"{self._source.path}: stretch {stretch} begins behind its end "
                    f"({duration:.1f} s)"
                )
            kept = Stretch(stretch.begin_s, min(stretch.end_s, whole))
            if placed:
                correction = self._join(placed[-1], kept)
            placed.append(_Placed(kept, offset, correction))
            offset += kept.length_s
        return placed

    def _join(self, before: _Placed, stretch: Stretch) -> Pose | None:
        """Correction that lets the odometry of a stretch follow that of the one before."""
        earlier = self._within(self._odometry, before.stretch)
        later = self._within(self._odometry, stretch)
        if len(earlier) < 2 or not len(later):
            return before.correction
        expected = _go_on(earlier, before.stretch.length_s + later.times_s[0])
        correction = expected @ later.poses[0].inv()
        earlier_one = before.correction
        return correction if earlier_one is None else (earlier_one @ correction).normalized()

    def _within(self, whole: Trajectory, stretch: Stretch) -> "_Part":
        """Poses of a stretch in the order in which they are played."""
        times_s = self._bag_seconds(whole.stamps_ns)
        kept = [index for index, time in enumerate(times_s) if stretch.holds(time)]
        kept.sort(key=lambda index: stretch.elapsed_s(times_s[index]))
        return _Part([stretch.elapsed_s(times_s[i]) for i in kept], [whole.poses[i] for i in kept])

    def _bag_seconds(self, stamps_ns: Stamps) -> list[float]:
        return [(stamp - self._source.start_ns) / NANOSECONDS for stamp in stamps_ns.tolist()]

    @property
    def _start_ns(self) -> int:
        """Stamp at which the result begins: that of its first stretch."""
        return self._source.start_ns + to_ns(self._placed[0].stretch.begin_s)

    def schedule(self) -> Iterator[tuple[int, int, int, int]]:
        """Time of recording, rank, message and stretch (by index) of all that is written."""
        static = self._layout.tf_static
        for index, raw in enumerate(self._raw):
            if raw.topic == static:
                yield self._start_ns, index, index, -1
        for place, part in enumerate(self._placed):
            for index, (raw, old) in enumerate(zip(self._raw, self._stamps, strict=True)):
                time_s = (old - self._source.start_ns) / NANOSECONDS
                if raw.topic == static or not part.stretch.holds(time_s):
                    continue
                stamp = self._new_stamp(old, part)
                if self._is_out(raw.topic, (stamp - self._start_ns) / NANOSECONDS):
                    continue
                arrival = stamp + raw.stamp_ns - old + self._latency_ns(raw.topic)
                yield arrival, place * len(self._raw) + index, index, place

    def _new_stamp(self, stamp_ns: int, part: _Placed) -> int:
        elapsed = abs(stamp_ns - self._source.start_ns - to_ns(part.stretch.begin_s))
        return self._start_ns + to_ns(part.offset_s) + elapsed

    def _is_image(self, topic: str) -> bool:
        return topic in (self._layout.image, self._layout.camera_info)

    def _latency_ns(self, topic: str) -> int:
        return to_ns(self._edit.image_latency_s) if self._is_image(topic) else 0

    def _is_out(self, topic: str, time_s: float) -> bool:
        return any(
            outage.begin_s <= time_s < outage.end_s
            and (topic == outage.topic if outage.topic else self._is_image(topic))
            for outage in self._edit.outages
        )

    def _stamp(self, raw: RawMessage) -> int:
        """Header stamp of a message; the time of recording where it has none."""
        fields = self._store.fielddefs[raw.kind][1]
        if raw.kind == messages.TF_MESSAGE:
            transforms = self._store.deserialize_cdr(raw.cdr, raw.kind).transforms
            return messages.stamp_of(transforms[0]) if len(transforms) else raw.stamp_ns
        if not fields or fields[0][0] != "header":
            return raw.stamp_ns
        return raw.header_ns

    def write(self, writer: Writer, order: list[tuple[int, int, int, int]]) -> None:
        """Write the messages of a schedule."""
        connections = {
            topic: writer.add_connection(
                topic,
                kind,
                typestore=self._store,
                offered_qos_profiles=[offered_qos(latched=topic == self._layout.tf_static)],
            )
            for topic, kind in self._topics.items()
        }
        for arrival, _, index, place in order:
            raw = self._raw[index]
            cdr = raw.cdr if place < 0 else self._moved(raw, self._placed[place])
            writer.write(connections[raw.topic], arrival, cdr)

    def _moved(self, raw: RawMessage, part: _Placed) -> bytes:
        """Content of a message at its new time."""
        if raw.kind == messages.TF_MESSAGE:
            return self._moved_transforms(raw, part)
        fields = self._store.fielddefs[raw.kind][1]
        if not fields or fields[0][0] != "header":
            return raw.cdr
        is_odometry = raw.kind == _ODOMETRY and part.correction is not None
        cdr = bytearray(self._corrected_odometry(raw, part) if is_odometry else raw.cdr)
        stamp = divmod(self._new_stamp(self._stamp(raw), part), NANOSECONDS)
        struct.pack_into(stamp_format(cdr), cdr, STAMP_PLACE, *stamp)
        return bytes(cdr)

    def _moved_transforms(self, raw: RawMessage, part: _Placed) -> bytes:
        message = self._store.deserialize_cdr(raw.cdr, raw.kind)
        edge = (self._layout.odom_frame, self._layout.base_frame)
        for item in message.transforms:
            stamp, frames = messages.stamp_of(item), (item.header.frame_id, item.child_frame_id)
            moved = messages.transform_message(
                self._new_stamp(stamp, part), *frames, self._corrected(item, part)
            ).transforms[0]
            item.header = moved.header
            if frames == edge and part.correction is not None:
                item.transform = moved.transform
        return bytes(self._store.serialize_cdr(message, raw.kind))

    def _corrected(self, message: Any, part: _Placed) -> Pose:
        """Odometry of a message as it goes on from the stretch before."""
        pose = messages.read_pose(message)
        return pose if part.correction is None else (part.correction @ pose).normalized()

    def _corrected_odometry(self, raw: RawMessage, part: _Placed) -> bytes:
        message = self._store.deserialize_cdr(raw.cdr, raw.kind)
        placed: Any = messages.pose_stamped(0, "", self._corrected(message, part)).pose
        message.pose.pose = placed
        return bytes(self._store.serialize_cdr(message, raw.kind))

    def cuts(self) -> tuple[Cut, ...]:
        """Where stretches meet, and how far the true pose jumps there."""
        if self._layout.ground_truth not in self._topics:
            return tuple(self._cut(part, 0.0, 0.0) for part in self._placed[1:])
        truth = self._source.trajectory(self._layout.ground_truth)
        cuts = []
        for before, part in zip(self._placed[:-1], self._placed[1:], strict=True):
            earlier, later = (self._within(truth, p.stretch) for p in (before, part))
            if len(earlier) < 2 or not len(later):
                cuts.append(self._cut(part, 0.0, 0.0))
                continue
            expected = _go_on(earlier, before.stretch.length_s + later.times_s[0])
            jump = expected.inv() @ later.poses[0]
            cuts.append(self._cut(part, float(jump.t.norm()), float(jump.magnitude()[0])))
        return tuple(cuts)

    def _cut(self, part: _Placed, position: float, rotation_deg: float) -> Cut:
        return Cut(self._start_ns + to_ns(part.offset_s), position, rotation_deg)


@dataclass(frozen=True)
class _Part:
    """Poses of a stretch by the seconds since its begin, in the order in which they are played."""

    times_s: list[float]
    poses: list[Pose]

    def __len__(self) -> int:
        return len(self.poses)


def _go_on(part: _Part, time_s: float) -> Pose:
    """Where the motion of the last two poses leads at a time, at constant speed."""
    (before, last), (first_s, last_s) = part.poses[-2:], part.times_s[-2:]
    share = (time_s - last_s) / (last_s - first_s)
    return last @ Pose.exp(share * (before.inv() @ last).log())
