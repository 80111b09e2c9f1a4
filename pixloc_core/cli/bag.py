"""`pixloc bag`: make a rosbag2 of a time sequence with truth and noisy odometry; edit one."""

import argparse
from pathlib import Path

from pixloc_core.errors import FormatError

_INPUTS = ("images", "list", "queries", "gt", "out")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "bag",
        help="make a rosbag2 of images, intrinsics and true poses, or edit one",
        description="Writes image, camera_info, /tf (simulated odometry), /tf_static and "
        "/ground_truth. Only images that are in all three lists go in. base_link has the axes of "
        "the camera's body (x forward, y left, z up) and its origin.",
    )
    # Not "required": `pixloc bag edit` does without.
    parser.add_argument("--images", type=Path, help="folder of the images")
    parser.add_argument("--list", type=Path, help="lines: time_s image [...]")
    parser.add_argument("--queries", type=Path, help="name MODEL w h params")
    parser.add_argument("--gt", type=Path, help="true poses, world to camera")
    parser.add_argument("--out", type=Path, help="folder of the bag, must not exist")
    parser.add_argument(
        "--odometry-drift",
        type=float,
        default=0.02,
        help="error as a share of the motion (default %(default)s)",
    )
    parser.add_argument(
        "--heading-drift-deg",
        type=float,
        default=0.2,
        help="degrees per unit travelled (default %(default)s)",
    )
    parser.add_argument(
        "--odometry-rate", type=float, default=50.0, help="Hz (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the odometry errors")
    actions = parser.add_subparsers(dest="action", metavar="edit")
    _add_edit_parser(actions)


def _add_edit_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser(
        "edit",
        help="cut, join, repeat, delay and thin out a bag",
        description="Writes a changed copy of a bag. Times are seconds since its first message. "
        "Stretches are joined in the order given: images and ground truth jump there, stamps and "
        "odometry go on. cuts.yaml in the new folder tells where.",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="folder of the bag")
    parser.add_argument("target", type=Path, metavar="OUT", help="folder, must not exist")
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="BEGIN:END",
        help="stretch to keep, END excluded (again for more); 9:4 is played backwards",
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="[TOPIC@]BEGIN:END",
        help="leave out the images (or a topic) for a time of the result",
    )
    parser.add_argument("--loop", type=int, default=1, metavar="N", help="repeat N times")
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        metavar="S",
        help="images and calibration arrive so much later, with the stamps they have",
    )


def run(args: argparse.Namespace) -> int:
    """Write the bag; exit code 0.

    Raises:
        FormatError: If a list or bag cannot be read, or no image is in all of the lists.
        ConfigError: If an odometry setting is out of range.
    """
    return _edit(args) if args.action == "edit" else _make(args)


def _edit(args: argparse.Namespace) -> int:
    from pixloc_core.bags.edit_plan import BagEdit, parse_outage, parse_stretch
    from pixloc_core.bags.editing import edit_bag
    from pixloc_core.bags.reader import BagReader

    edit = BagEdit(
        stretches=tuple(parse_stretch(text) for text in args.keep),
        repeats=args.loop,
        outages=tuple(parse_outage(text) for text in args.drop),
        image_latency_s=args.latency,
    )
    if edit == BagEdit():
        raise FormatError("nothing to change: expected --keep, --loop, --latency or --drop")
    cuts = edit_bag(BagReader(args.source), args.target, edit)
    written = BagReader(args.target)
    start = written.start_ns
    print(f"{args.target}: {sum(written.counts.values())} messages, {written.duration_s:.1f} s")
    for cut in cuts:
        print(
            f"cut at {(cut.stamp_ns - start) / 1e9:.1f} s: the true pose jumps by "
            f"{cut.position:.2f} m, {cut.rotation_deg:.1f} deg"
        )
    return 0


def _make(args: argparse.Namespace) -> int:
    missing = [f"--{name}" for name in _INPUTS if getattr(args, name) is None]
    if missing:
        raise FormatError(f"{', '.join(missing)} missing (see pixloc bag --help)")
    from pixloc_core.bags.odometry import OdometryConfig, simulate_odometry
    from pixloc_core.bags.sequence import base_from_camera, map_from_base, read_sequence
    from pixloc_core.bags.writer import Recording, write_bag
    from pixloc_core.map.hloc_formats import read_poses, read_queries

    odometry = OdometryConfig(
        drift=args.odometry_drift,
        heading_drift_deg=args.heading_drift_deg,
        rate_hz=args.odometry_rate,
        seed=args.seed,
    )
    poses = read_poses(args.gt)
    frames = read_sequence(args.list, args.images, read_queries(args.queries), poses.keys())
    truth = map_from_base(frames, {args.images / name: pose for name, pose in poses.items()})
    recording = Recording(frames, truth, simulate_odometry(truth, odometry), base_from_camera())
    write_bag(args.out, recording)
    seconds = (frames[-1].stamp_ns - frames[0].stamp_ns) / 1e9
    print(f"{args.out}: {len(frames)} images in {seconds:.1f} s")
    return 0
