"""Build the ROS 2 messages of this repository for a ROS 2 that was installed by pip.

Run by `make venv` with the python of the virtual environment: generates and compiles `msg/`
(and `tf2_msgs/TFMessage`, which pip's ROS 2 lacks) and installs them into that environment. With a
full ROS 2, colcon does this, and this program has no use.

    .venv/bin/python tools/build_interfaces.py [--build-dir build/interfaces]
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# Set by the ROS wheels for their own processes. A child that inherits them would not look for the
# libraries of its own environment, and CMake's compilers need none of them.
BOOTSTRAP_VARIABLES = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH")


def main() -> int:
    """Build what is missing; 0, 1 (build failed) or 2 (a tool is missing)."""
    parser = argparse.ArgumentParser(description="Build the ROS 2 messages into this venv.")
    parser.add_argument("--build-dir", type=Path, default=REPOSITORY / "build" / "interfaces")
    build_dir = parser.parse_args().build_dir
    problem = missing_tool()
    if problem:
        print(f"build_interfaces: {problem}", file=sys.stderr)
        return 2
    try:
        if importlib.util.find_spec("tf2_msgs") is None:
            build(REPOSITORY / "interfaces" / "tf2_msgs", build_dir / "tf2_msgs")
        build(REPOSITORY, build_dir / "pixloc_ros", "-DPIXLOC_INTERFACES_ONLY=ON")
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd[:3]))
        print(f"build_interfaces: `{command} ...` failed, see above", file=sys.stderr)
        return 1
    join_with_sources()
    return 0


def missing_tool() -> str:
    """One line about the first thing missing on this machine, or nothing."""
    if sys.prefix == sys.base_prefix:
        return "run me with the python of a virtual environment (make venv does)"
    for tool in ("cmake", "ninja"):
        if not (Path(sys.prefix) / "bin" / tool).exists():
            return f"no {tool} in {sys.prefix}/bin: pip install -r requirements-build.txt"
    if shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None:
        return "no C++ compiler found: install g++"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        return f"{header} is missing: install the headers of this Python (python3-dev)"
    return ""


def build(source: Path, build_dir: Path, *options: str) -> None:
    """Configure, compile and install one interface package into the environment."""
    prefix = Path(sys.prefix)
    environment = {k: v for k, v in os.environ.items() if k not in BOOTSTRAP_VARIABLES}
    environment["PATH"] = f"{prefix / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = str(prefix)
    # A half-made cache of an earlier environment would be believed.
    shutil.rmtree(build_dir, ignore_errors=True)
    cmake = str(prefix / "bin" / "cmake")
    configure = [
        *(cmake, "-S", str(source), "-B", str(build_dir), "-G", "Ninja"),
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        f"-DPython3_EXECUTABLE={prefix / 'bin' / 'python'}",
        f"-DCMAKE_PROJECT_INCLUDE={REPOSITORY / 'cmake/drop_missing_include_directories.cmake'}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_TESTING=OFF",
        "-Wno-dev",
        "--log-level=WARNING",
        *options,
    ]
    subprocess.run(configure, env=environment, check=True)
    install = [cmake, "--build", str(build_dir), "--target", "install"]
    # Its hundred lines of installed files say nothing to anybody.
    subprocess.run(install, env=environment, check=True, stdout=subprocess.DEVNULL)


def join_with_sources() -> None:
    """Make one package of the generated `pixloc_ros` and the sources of the same name."""
    site_packages = Path(sysconfig.get_paths()["purelib"])
    # pip would take it for an older version of this project and remove the messages with it.
    for egg_info in site_packages.glob("pixloc_ros-*.egg-info"):
        shutil.rmtree(egg_info)
    # The generated __init__.py is empty; ours extends the path over both folders.
    shutil.copy(REPOSITORY / "pixloc_ros" / "__init__.py", site_packages / "pixloc_ros")


if __name__ == "__main__":
    raise SystemExit(main())
