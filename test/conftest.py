"""Settings of the whole test suite."""

import os
from pathlib import Path

import pytest

# Message classes check their field types only with this set before they are imported.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]
ROS = REPOSITORY / "test/ros"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the work, each file runs in one; ROS as a whole in one."""
    for item in items:
        group = "ros" if ROS in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real image sets (`data/`) and reference numbers (`fixtures/`)."""
    folder = Path(os.environ.get("PIXLOC_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no test material at {folder} (set PIXLOC_SHARED)")
    return folder
