"""The Fast DDS profile for images, where no other one is set."""

import os
import sys
from pathlib import Path

_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def find_config(name: str) -> Path | None:
    """A file of `config/`: beside the sources, else where the package was installed."""
    installed = Path("share/pixloc_ros/config") / name
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    source = Path(__file__).resolve().parents[1] / "config" / name
    candidates = [source, *(Path(prefix) / installed for prefix in prefixes if prefix)]
    return next((path for path in candidates if path.is_file()), None)


def use_image_profile() -> None:
    """Set the profile for this process and its children; before `rclpy.init`.

    The built-in transports lose most of the larger images (docs/node.md).
    """
    profile = find_config("shm.xml")
    if profile is not None and not any(name in os.environ for name in _PROFILE_VARIABLES):
        os.environ[_PROFILE_VARIABLES[0]] = str(profile)
