"""Runs the launch test of test/launch_tracking.py, where a full ROS 2 has it installed."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pixloc_core.evaluation.assembly import open_or_build_map
from pixloc_core.features.extractor import ExtractorConfig, create_extractor

TESTS = Path(__file__).resolve().parents[1]
SAMPLE = TESTS.parent / "sample"
LAUNCH_TEST = TESTS / "launch_tracking.py"


@pytest.fixture
def sample_map(launch_test, tmp_path: Path) -> Path:
    # After `launch_test`: not where the test is skipped.
    extractor = create_extractor(ExtractorConfig(kind="gradients"))
    path = tmp_path / "map.h5"
    open_or_build_map(path, SAMPLE / "map" / "sfm", SAMPLE / "map" / "images", extractor)
    return path


def initial_pose() -> str:
    start = yaml.safe_load((SAMPLE / "day" / "initial_pose.yaml").read_text())
    _, _, z, w = start["orientation_xyzw"]
    numbers = [*start["position"], 0.0, 0.0, 2 * math.atan2(z, w)]
    return ",".join(str(number) for number in numbers)


@pytest.fixture
def launch_test() -> list[str]:
    """The command that runs the launch test, where it can run."""
    for name in ("launch_ros", "launch_testing"):
        pytest.importorskip(
            name,
            reason=f"needs {name} of a full ROS 2 (apt install ros-$ROS_DISTRO-launch-testing)",
        )
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        program = Path(get_package_prefix("pixloc_ros")) / "lib" / "pixloc_ros" / "localizer_node"
    except PackageNotFoundError:
        pytest.skip("needs this package built by colcon and sourced")
    if not program.is_file():
        pytest.skip(f"needs {program}, which colcon installs")
    main = "import sys; from launch_testing.launch_test import main; sys.exit(main())"
    return [sys.executable, "-c", main, str(LAUNCH_TEST)]


@pytest.mark.slow
def test_replay_of_the_sample_comes_to_track(launch_test, sample_map):
    arguments = [f"bag:={SAMPLE / 'day'}", f"map:={sample_map}", f"initial_pose:={initial_pose()}"]
    done = subprocess.run([*launch_test, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # unittest reports there: one test while it runs, one after its end.
    assert done.stderr.count("\nOK\n") == 2, done.stderr
