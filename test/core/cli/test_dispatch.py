"""`pixloc`: verbs, exit codes and what is said on stderr."""

import importlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixloc_core.cli import ROS_VERBS, VERBS, main

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def restore_log_level() -> Iterator[None]:
    package = logging.getLogger("pixloc_core")
    level = package.level
    yield
    package.setLevel(level)


def usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr with which arguments are refused."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_can_be_run(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(importlib.import_module(VERBS[verb]).run)
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: pixloc {verb} ")


def test_the_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for verb in VERBS:
        assert f"\n    {verb} " in out


def test_wrong_usage_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert "VERB" in usage_error([], capsys)
    assert "invalid choice: 'fly'" in usage_error(["fly"], capsys)
    assert "--sfm" in usage_error(["map", "build"], capsys)
    assert "a.b=c" not in usage_error(["map", "build"], capsys)
    assert "'loud'" in usage_error(["map", "info", "x.h5", "--log-level", "loud"], capsys)


def test_bad_input_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "info", "nowhere.h5"]) == 2
    assert capsys.readouterr().err == "pixloc map: nowhere.h5: no such feature map\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(28, "No space left on device", "/x/map.h5"),
            2,
            "/x/map.h5: No space left on dev",
        ),
        (OSError("unable to\n  lock file"), 2, "pixloc map: unable to lock file\n"),
        (KeyboardInterrupt(), 130, "pixloc map: interrupted\n"),
    ],
)
def test_the_system_saying_no_is_one_line(
    error: BaseException,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module(VERBS["map"]), "run", fail)
    assert main(["map", "info", "x.h5"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_faults_of_the_program_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_arguments: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(importlib.import_module(VERBS["map"]), "run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["map", "info", "x.h5"])


@pytest.mark.parametrize("place", [0, 2, 3])
def test_the_log_level_may_stand_anywhere(place: int) -> None:
    arguments = ["map", "info", "nowhere.h5"]
    assert main([*arguments[:place], "--log-level", "debug", *arguments[place:]]) == 2
    assert logging.getLogger("pixloc_core").level == logging.DEBUG


def test_help_imports_neither_torch_nor_pycolmap() -> None:
    """So that it answers at once."""
    program = (
        "import sys, contextlib\n"
        "from pixloc_core.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'torch', 'pycolmap', 'h5py', 'cv2'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_package_can_be_run_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pixloc_core", "map", "info", "nowhere.h5"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == "pixloc map: nowhere.h5: no such feature map\n"
    assert result.stdout == ""


@pytest.fixture
def ros_verb(monkeypatch: pytest.MonkeyPatch) -> str:
    """A verb whose module cannot be imported, as one of pixloc_ros without ROS."""
    for table in (VERBS, ROS_VERBS):
        monkeypatch.setitem(table, "fly", "no_such_ros_package.fly")
    return "fly"


@pytest.mark.parametrize("arguments", [["fly"], ["fly", "--help"], ["fly", "--height", "3"]])
def test_a_verb_that_needs_ros_says_so_in_one_line(
    arguments: list[str], ros_verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"pixloc {ros_verb}: needs ROS 2: ")
    assert "no_such_ros_package" in err
    assert err.count("\n") == 1


def test_verbs_that_lack_ros_hinder_no_other(
    ros_verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert f"{ros_verb} " in capsys.readouterr().out
    assert main(["map", "info", "nowhere.h5"]) == 2


def test_ros_missing_when_a_verb_runs_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_arguments: object) -> int:
        raise ModuleNotFoundError("No module named 'rclpy'")

    monkeypatch.setattr(importlib.import_module(VERBS["map"]), "run", fail)
    monkeypatch.setitem(ROS_VERBS, "map", VERBS["map"])
    assert main(["map", "info", "x.h5"]) == 2
    assert capsys.readouterr().err == "pixloc map: needs ROS 2: No module named 'rclpy'\n"
