"""Does the node grow? Memory and open files of its process while a bag is played in a loop.

    python -m benchmarks.soak --map map.h5 --bag BAG --minutes 60

At each start of the bag time is set back, so that the node forgets the pose and is told the first
true one again. Exit code 1 where it has grown by more than the limits or does not localize, 2
where it died.
"""

import argparse
import math
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results_file import write_section
from pixloc_core.errors import PixlocError
from pixloc_ros.interfaces import LocalizationStatus
from pixloc_ros.replay.session import ReplayPlan, ReplaySession

RESULTS = Path(__file__).parent / "results.md"
# What is set up with the first images is no growth.
WARM_UP = 0.25
_MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """The process at one moment.

    Attributes:
        seconds: Since the begin.
        memory_mib: Resident memory.
        files: Open file handles, sockets among them.
    """

    seconds: float
    memory_mib: float
    files: int


@dataclass(frozen=True)
class Limits:
    """How much a process may grow over a run, the warm-up apart.

    Attributes:
        memory_mib: Memory along the fitted line; allocators wobble by some MiB.
        files: Open files.
        published: Smallest share of the images taken up that must be localized.
    """

    memory_mib: float = 8.0
    files: int = 2
    published: float = 0.5


@dataclass(frozen=True)
class Soak:
    """What was seen.

    Attributes:
        samples: In order.
        loops: How often the bag was begun.
        taken: Images that the node took up.
        published: Poses that it published.
    """

    samples: tuple[Sample, ...]
    loops: int
    taken: int
    published: int

    @property
    def steady(self) -> tuple[Sample, ...]:
        """The samples after the warm-up."""
        begin = WARM_UP * self.samples[-1].seconds
        return tuple(sample for sample in self.samples if sample.seconds >= begin)

    @property
    def slope_mib_per_hour(self) -> float:
        """Growth of the memory: slope of the line through the samples after the warm-up."""
        seconds = np.array([sample.seconds for sample in self.steady])
        memory = np.array([sample.memory_mib for sample in self.steady])
        if len(seconds) < 2:
            return math.nan
        return float(np.polyfit(seconds - seconds[0], memory, 1)[0]) * 3600

    @property
    def growth_mib(self) -> float:
        """That line from its begin to its end."""
        hours = (self.steady[-1].seconds - self.steady[0].seconds) / 3600
        return self.slope_mib_per_hour * hours

    @property
    def growth_files(self) -> int:
        """Most open files in the last third of the steady samples, beyond those in the first."""
        third = max(1, len(self.steady) // 3)
        files = [sample.files for sample in self.steady]
        return max(files[-third:]) - max(files[:third])

    def problems(self, limits: Limits) -> list[str]:
        """What is wrong, a line each; NaN counts as wrong."""
        found = []
        if not self.growth_mib <= limits.memory_mib:
            found.append(f"memory grew by {self.growth_mib:.1f} MiB, limit {limits.memory_mib:g}")
        if self.growth_files > limits.files:
            found.append(f"open files grew by {self.growth_files}, limit {limits.files}")
        if self.published < limits.published * max(self.taken, 1):
            found.append(
                f"{self.published} of {self.taken} images were localized, expected "
                f"{limits.published:.0%}"
            )
        return found


def read_process(pid: int, seconds: float) -> Sample:
    """Memory and files of a process (Linux)."""
    proc = Path(f"/proc/{pid}")
    pages = int((proc / "statm").read_text().split()[1])
    files = len(os.listdir(proc / "fd"))
    return Sample(seconds, pages * os.sysconf("SC_PAGE_SIZE") / _MIB, files)


class SoakSession(ReplaySession):
    """A replay that counts what the node says."""

    def __enter__(self) -> "SoakSession":
        super().__enter__()
        self.taken = self.published = 0
        self._node.create_subscription(LocalizationStatus, "status", self._on_status, 10)
        return self

    def _on_status(self, message: LocalizationStatus) -> None:
        self.taken += 1
        self.published += message.published


def soak(plan: ReplayPlan, minutes: float, period_s: float = 1.0) -> Soak:
    """Play a bag in a loop.

    Args:
        plan: Bag, map, and rate.
        minutes: For how long.
        period_s: Time between two looks at the process.

    Raises:
        ReplayError: If the node does not come up, or dies.
    """
    stop, samples, loops = threading.Event(), [], 0
    with SoakSession(plan) as session:
        session.wait_until_ready()
        truth = session.bag.trajectory(plan.layout.ground_truth)
        pid, began = session.localizer.pid, time.monotonic()
        assert pid is not None

        def watch() -> None:
            while (now := time.monotonic() - began) < 60 * minutes and session.localizer.alive:
                samples.append(read_process(pid, now))
                time.sleep(period_s)
            stop.set()

        watcher = threading.Thread(target=watch, name="watcher")
        watcher.start()
        try:
            while not stop.is_set():
                loops += 1
                session.replayer.announce()
                session.send_initial_pose(truth.poses[0], int(truth.stamps_ns[0]))
                session.play(stop)
        finally:
            watcher.join()
        return Soak(tuple(samples), loops, session.taken, session.published)


def format_table(result: Soak, rate: float) -> str:
    """Markdown table of one run."""
    first, last = result.steady[0], result.steady[-1]
    head = (
        "| minutes | rate | loops | images | localized | RSS MiB after warm-up | at the end "
        "| slope MiB/h | files after warm-up | at the end |"
    )
    row = (
        f"| {last.seconds / 60:.1f} | {rate:g} | {result.loops} | {result.taken} "
        f"| {result.published} | {first.memory_mib:.1f} | {last.memory_mib:.1f} "
        f"| {result.slope_mib_per_hour:+.2f} | {first.files} | {last.files} |"
    )
    return "\n".join([head, "|---" * 10 + "|", row])


def parse(args: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    limits = Limits()
    parser.add_argument("--map", type=Path, required=True, help="feature map file")
    parser.add_argument("--bag", type=Path, required=True, help="rosbag2 folder with the truth")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the replay")
    parser.add_argument("--max-growth", type=float, default=limits.memory_mib, metavar="MIB")
    parser.add_argument("--log", type=Path, help="file for what the node says")
    parser.add_argument("--write", action="store_true", help="write results.md")
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> int:
    """Run and print; 0 without growth, 1 with it, 2 if it cannot be run."""
    given = parse(args)
    with tempfile.TemporaryDirectory() as folder:
        log = given.log or Path(folder) / "node.log"
        plan = ReplayPlan("soak", given.bag, given.map, log, rate=given.rate)
        try:
            result = soak(plan, given.minutes)
        except PixlocError as error:
            print(error, file=sys.stderr)
            return 2
    table = format_table(result, given.rate)
    print(table)
    problems = result.problems(Limits(memory_mib=given.max_growth))
    for problem in problems:
        print(problem, file=sys.stderr)
    if given.write:
        command = f"python -m benchmarks.soak --minutes {given.minutes:g} --rate {given.rate:g}"
        text = f"## Growth of the node\n\n`{command} --map MAP --bag BAG --write`\n\n{table}"
        write_section(RESULTS, "soak", text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
