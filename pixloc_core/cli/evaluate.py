"""`pixloc evaluate`: hold a file of poses against the truth."""

import argparse
import json
import math
from pathlib import Path

from pixloc_core.errors import FormatError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare poses with ground truth",
        description="Medians and recalls over all queries of the ground truth; a query without "
        "a pose counts as a failure.",
    )
    parser.add_argument("--results", type=Path, required=True, help="poses: name qw qx qy qz t")
    parser.add_argument("--gt", type=Path, required=True, help="true poses, same format")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument(
        "--thresholds",
        type=parse_threshold,
        nargs="+",
        metavar="T,DEG",
        help="recall at these errors: units of the map, degrees (default 0.01,0.1 to 0.5,5)",
    )


def parse_threshold(text: str) -> tuple[float, float]:
    """`0.05,0.5` as (position, degrees), both positive."""
    try:
        far, degrees = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected T,DEG such as 0.05,0.5") from error
    if not (0 < far < math.inf and 0 < degrees < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r}, expected two positive numbers")
    return far, degrees


def run(args: argparse.Namespace) -> int:
    """Print the table; exit code 0.

    Raises:
        FormatError: If a file cannot be read, or the two have no query in common.
    """
    from pixloc_core.evaluation.pose_error import DEFAULT_THRESHOLDS, errors_by_name
    from pixloc_core.evaluation.report import summarize, summary_text
    from pixloc_core.map.hloc_formats import read_poses

    estimates, truths = read_poses(args.results), read_poses(args.gt)
    if not truths:
        raise FormatError(f"{args.gt}: holds no pose")
    if estimates and not estimates.keys() & truths.keys():
        raise FormatError(
            f"{args.results}: none of its {len(estimates)} queries is in {args.gt}, "
            f"e.g. {next(iter(estimates))!r}"
        )
    _, errors = errors_by_name(estimates, truths)
    summary = summarize(errors, args.thresholds or DEFAULT_THRESHOLDS)
    print(summary_text(summary))
    if args.json is not None:
        args.json.write_text(json.dumps(summary, indent=1) + "\n")
    return 0
