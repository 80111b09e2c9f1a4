"""The shape of the house: import directions, file sizes, no side effects on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CORE = REPOSITORY / "pixloc_core"

# From the foundation upwards: a module may import from its own layer and from those before it.
LAYERS = [
    {"errors", "shapes", "config"},
    {"geometry"},
    {"optim"},
    {"map"},
    {"features"},
    {"alignment"},
    {"localizer"},
    {"retrieval"},
    {"bags"},
    {"evaluation", "training"},
    {"visualization"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ROS_MODULES = {"rclpy", "tf2_ros", "cv_bridge", "launch", "launch_ros"}
ROS_MODULES |= {f"{kind}_msgs" for kind in ("sensor", "geometry", "nav", "std", "diagnostic")}
ROS_MODULES |= {"tf2_msgs", "lifecycle_msgs", "std_srvs"}


def imported_modules(path: Path) -> set[str]:
    """Full names of everything a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def core_files() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def test_every_core_module_belongs_to_a_layer() -> None:
    unknown = {layer_of(path) for path in core_files()} - RANK.keys() - {"__init__"}
    assert not unknown


def test_core_imports_point_only_downwards() -> None:
    upward = [
        f"{path.relative_to(REPOSITORY)} imports {module}"
        for path in core_files()
        if layer_of(path) != "__init__"
        for module in imported_modules(path)
        if module.startswith("pixloc_core.")
        and RANK.get(module.split(".")[1], -1) > RANK[layer_of(path)]
    ]
    assert not upward, "\n".join(upward)


def test_the_core_knows_no_ros() -> None:
    guilty = [
        f"{path.relative_to(REPOSITORY)} imports {module}"
        for path in core_files()
        for module in imported_modules(path)
        if module.split(".")[0] in ROS_MODULES | {"pixloc_ros"}
    ]
    assert not guilty, "\n".join(guilty)


def test_only_the_interfaces_module_imports_our_own_messages() -> None:
    guilty = [
        path.name
        for path in sorted((REPOSITORY / "pixloc_ros").rglob("*.py"))
        if path.name != "interfaces.py"
        and any(m.startswith(("pixloc_ros.msg", "pixloc_ros.srv")) for m in imported_modules(path))
    ]
    assert not guilty


def test_no_python_file_exceeds_400_lines() -> None:
    folders = ("pixloc_core", "pixloc_ros", "test", "tools", "benchmarks", "launch", "examples")
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


@pytest.mark.parametrize("package", ["pixloc_core.localizer.localizer", "pixloc_core.cli"])
def test_importing_changes_no_global_setting(package: str) -> None:
    """A fresh process: autograd, threads, seed and log handlers are as they were."""
    program = f"""
import logging, torch
before = (torch.is_grad_enabled(), torch.get_num_threads(), torch.initial_seed(),
          torch.get_default_dtype(), len(logging.getLogger().handlers))
import {package}
after = (torch.is_grad_enabled(), torch.get_num_threads(), torch.initial_seed(),
         torch.get_default_dtype(), len(logging.getLogger().handlers))
assert before == after, (before, after)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
