"""`pixloc <verb>`: dispatch, exit codes, logging.

Exit codes: 0 done; 2 wrong usage or bad input, with one line on stderr; 130 interrupted (Ctrl-C);
1 anything else, such as a threshold that is missed.
"""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from pixloc_core.errors import PixlocError

# Verb -> module with `add_parser(subparsers)` and `run(args) -> exit code`. A module is imported
# when its verb is asked for, so that one verb does not pay for the imports of another.
VERBS = {
    "map": "pixloc_core.cli.map",
    "localize": "pixloc_core.cli.localize",
    "evaluate": "pixloc_core.cli.evaluate",
    "calibrate": "pixloc_core.cli.calibrate",
    "bag": "pixloc_core.cli.bag",
    "weights": "pixloc_core.cli.weights",
    "train": "pixloc_core.cli.train",
    "preprocess": "pixloc_core.cli.preprocess",
}
# Those that live above the core: known by name only, so that the core needs no ROS.
ROS_VERBS: dict[str, str] = {
    "doctor": "pixloc_ros.doctor.command",
    "replay": "pixloc_ros.replay.command",
}
VERBS |= ROS_VERBS
# As a shell reports a command that Ctrl-C ended: 128 + SIGINT.
_INTERRUPTED = 130
LOG_LEVELS = ("debug", "info", "warning", "error")


class _RosMissingError(PixlocError):
    """A verb of `pixloc_ros` where ROS 2 cannot be imported."""


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is for `--help`."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        argv: The arguments without the name of the program; those of the process if not given.

    Raises:
        SystemExit: From argparse, 0 after `--help`, 2 for wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    common = _common_options()
    # Options for all verbs may stand before or after the verb.
    options, rest = common.parse_known_args(arguments)
    _set_log_level(options.log_level)
    try:
        parser = _parser(common, rest)
    except _RosMissingError as error:
        return _refuse(_asked(rest), str(error))
    args, late = parser.parse_known_args(rest)
    # argparse takes settings only next to the other words: these stand behind an option.
    if late and not (hasattr(args, "settings") and all(_is_setting(word) for word in late)):
        parser.error(f"unrecognized arguments: {' '.join(late)}")
    if late:
        args.settings += late
    try:
        return _run(args)
    except PixlocError as error:
        return _refuse(args.verb, str(error))
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing may be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(args.verb, f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        print(f"pixloc {args.verb}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    try:
        return int(_module(args.verb).run(args))
    except ImportError as error:
        if args.verb not in ROS_VERBS:
            raise
        raise _RosMissingError(f"needs ROS 2: {error}") from error


def _module(verb: str) -> ModuleType:
    try:
        return importlib.import_module(VERBS[verb])
    except ImportError as error:
        if verb not in ROS_VERBS:
            raise
        raise _RosMissingError(f"needs ROS 2: {error}") from error


def _asked(arguments: Sequence[str]) -> str:
    """The verb of a command line, or nothing."""
    first = next((word for word in arguments if not word.startswith("-")), "")
    return first if first in VERBS else ""


def _is_setting(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _common_options() -> argparse.ArgumentParser:
    common = _OneLineParser(prog="pixloc", add_help=False, allow_abbrev=False)
    common.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="warning",
        help="what is reported on stderr (default %(default)s)",
    )
    return common


def _parser(common: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Parser of the verb that is asked for, or of all verbs if none is."""
    parser = _OneLineParser(
        prog="pixloc",
        description="Localize images in a Structure-from-Motion map.",
        parents=[common],
    )
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asked = _asked(arguments)
    if asked:
        _module(asked).add_parser(subparsers)
        return parser
    for verb in VERBS:
        _list(verb, subparsers)
    return parser


def _list(verb: str, subparsers: "argparse._SubParsersAction[_OneLineParser]") -> None:
    """Declare a verb among the others, also one that cannot be used here."""
    try:
        _module(verb).add_parser(subparsers)
    except _RosMissingError:
        subparsers.add_parser(verb, help="needs ROS 2, which is missing here")


def _set_log_level(name: str) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("pixloc_core").setLevel(name.upper())


def _refuse(verb: str, message: str) -> int:
    """Report bad input in one line, whatever the message holds."""
    print(f"pixloc {verb}: {' '.join(message.split())}", file=sys.stderr)
    return 2
