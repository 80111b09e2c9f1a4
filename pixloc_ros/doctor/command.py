"""`pixloc doctor`: the command line. ROS is imported when it runs, so that `--help` needs none."""

import argparse
import json
import sys
from pathlib import Path

FINDINGS_CODE = 1
_NODE = "localizer"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what is wrong with a running ROS system",
        description="Listens to a running system for some seconds and says what keeps the "
        "localizer from working: one line for each finding, and what to do. Exit code 0: "
        "nothing found; 1: something found; 2: wrong usage.",
    )
    parser.add_argument("--map", type=Path, help="feature map (default: that of the node)")
    parser.add_argument("--image-topic", help="(default: what the node listens to, else image)")
    parser.add_argument(
        "--camera-info-topic", help="(default: what the node listens to, else camera_info)"
    )
    parser.add_argument("--params-file", type=Path, help="parameter file of the node")
    parser.add_argument("--namespace", default="", help="namespace of the node")
    parser.add_argument(
        "--seconds", type=_positive, default=5.0, help="how long to listen (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}, expected seconds, above 0 and at most 3600")
    return value


def run(args: argparse.Namespace) -> int:
    """Look, judge, report; 0 if all is well, 1 if not.

    Raises:
        PixlocError: If the parameter file cannot be used.
    """
    space = args.namespace.strip("/")
    node = f"/{space}/{_NODE}" if space else f"/{_NODE}"
    settings = None
    if args.params_file:
        from pixloc_ros.doctor.settings import read_settings

        settings = read_settings(args.params_file, node)
    # Before the imports, which take seconds.
    sys.stderr.write(f"listening for {args.seconds:g} s ...\n")
    sys.stderr.flush()
    from pixloc_ros.doctor.collect import Subject, collect
    from pixloc_ros.doctor.findings import Level
    from pixloc_ros.doctor.judge import judge, summary

    subject = Subject(
        node=node,
        image_topic=args.image_topic or "",
        camera_info_topic=args.camera_info_topic or "",
        map=args.map,
        settings=settings,
        seconds=args.seconds,
    )
    findings = judge(collect(subject))
    if args.json:
        rows = [{"level": f.level.name, "what": f.what, "advice": f.advice} for f in findings]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        lines = [*(finding.line() for finding in findings), summary(findings)]
        sys.stdout.write("\n".join(lines) + "\n")
    return FINDINGS_CODE if any(f.level is not Level.OK for f in findings) else 0
