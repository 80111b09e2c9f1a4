"""`pixloc bag`: make a rosbag2 of a time sequence with ground truth and noisy odometry."""

import argparse
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "bag",
        help="make a rosbag2 of images, intrinsics and true poses",
        description="Writes image, camera_info, /tf (simulated odometry), /tf_static and "
        "/ground_truth. Only images that are in all three lists go in. base_link has the axes of "
        "the camera's body (x forward, y left, z up) and its origin.",
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--list", type=Path, required=True, help="lines: time_s image [...]")
    parser.add_argument("--queries", type=Path, required=True, help="name MODEL w h params")
    parser.add_argument("--gt", type=Path, required=True, help="true poses, world to camera")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the bag, must not exist"
    )
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


def run(args: argparse.Namespace) -> int:
    """Write the bag; exit code 0.

    Raises:
        FormatError: If a list cannot be read, or no image is in all of them.
        ConfigError: If an odometry setting is out of range.
    """
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
