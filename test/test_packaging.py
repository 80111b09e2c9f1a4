"""What pip, colcon and make read must agree."""

import configparser
import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from setuptools import find_packages

REPOSITORY = Path(__file__).resolve().parents[1]


def manifest() -> ET.Element:
    return ET.parse(REPOSITORY / "package.xml").getroot()


def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def requirements(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text().splitlines()
    found = [re.match(r"([\w-]+)(?:\[\w+\])?==([\w.+]+)", line) for line in lines]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def test_ros_and_pip_know_the_same_package():
    package, about = manifest(), metadata()["metadata"]
    assert package.findtext("name") == about["name"]
    assert package.findtext("version") == about["version"]
    assert package.findtext("license") == about["license"]


def test_every_runtime_dependency_of_pip_is_pinned_for_make():
    pinned = requirements("requirements.txt")
    sections = metadata()
    wanted = sections["options"]["install_requires"].split("\n")
    for extra in ("ros", "bag", "report", "retrieval"):
        wanted += sections["options.extras_require"][extra].split("\n")
    names = {re.match(r"[\w-]+", line)[0].lower() for line in wanted if line and line[0] != "#"}
    assert names - pinned.keys() == set()


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-build.txt", "requirements-dev.txt"]
)
def test_every_requirement_is_pinned(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    loose = [line for line in lines if line and not line.startswith("#") and "==" not in line]
    assert not loose


def test_programs_of_colcon_and_pip_exist():
    scripts = metadata()["options.entry_points"]["console_scripts"]
    programs = dict(re.findall(r'"(\w+)=([\w.]+)"', (REPOSITORY / "CMakeLists.txt").read_text()))
    for name, target in re.findall(r"(\w+) = ([\w.]+):main", scripts):
        assert programs[name] == target
    for module in programs.values():
        assert importlib.util.find_spec(module) is not None


def test_every_message_file_is_built():
    built = set(
        re.findall(r'"((?:msg|srv)/\w+\.\w+)"', (REPOSITORY / "CMakeLists.txt").read_text())
    )
    files = [path for kind in ("msg", "srv") for path in (REPOSITORY / kind).iterdir()]
    assert built == {f"{path.parent.name}/{path.name}" for path in files}


def test_ros_packages_imported_are_declared():
    declared = {element.text for element in manifest() if element.tag.endswith("depend")}
    imported = set()
    for path in (REPOSITORY / "pixloc_ros").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    ros = {name for name in imported if name.endswith(("_msgs", "_interfaces", "_srvs"))}
    assert ros | {"rclpy", "cv_bridge"} <= declared
    assert ("tf2_ros" in imported) == ("tf2_ros_py" in declared)


def test_pip_only_messages_are_hidden_from_colcon():
    for package in (REPOSITORY / "interfaces").iterdir():
        assert (package / "COLCON_IGNORE").is_file()


def test_pip_installs_every_file_of_the_packages_that_is_no_python():
    installed = set()
    for package, patterns in metadata()["options.package_data"].items():
        folder = REPOSITORY / package.replace(".", "/")
        installed |= {path for pattern in patterns.split() for path in folder.glob(pattern)}
    for package in ("pixloc_core", "pixloc_ros"):
        files = {path for path in (REPOSITORY / package).rglob("*.*") if path.is_file()}
        assert {path for path in files if path.suffix not in (".py", ".pyc")} <= installed
    assert {path.name for path in installed} >= {"py.typed", "light.safetensors"}


def test_pip_installs_every_folder_of_modules():
    patterns = metadata()["options.packages.find"]["include"].split()
    installed = set(find_packages(str(REPOSITORY), include=patterns))
    folders = {
        p.parent for n in ("pixloc_core", "pixloc_ros") for p in (REPOSITORY / n).rglob("*.py")
    }
    assert {".".join(folder.relative_to(REPOSITORY).parts) for folder in folders} == installed


def test_licence_and_attribution_go_along_with_the_weights():
    names = metadata()["metadata"]["license_files"].split()
    assert names == ["LICENSE", "NOTICE"]
    colcon = (REPOSITORY / "CMakeLists.txt").read_text()
    for name in names:
        assert (REPOSITORY / name).is_file()
        assert re.search(rf"install\(FILES[^)]*\b{name}\b", colcon)


def test_make_offers_what_the_readme_promises():
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert {"venv", "test", "demo", "lint", "bench", "clean"} <= set(targets)
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()


def test_transport_profile_gives_images_room():
    root = ET.parse(REPOSITORY / "config" / "shm.xml").getroot()
    values = {element.tag.split("}")[-1]: element.text for element in root.iter()}
    # Several colour images of 1080p.
    assert int(values["segment_size"]) > 2 * 1920 * 1080 * 3
    assert int(values["maxMessageSize"]) > 1920 * 1080 * 3


def test_parameter_file_is_yaml_for_any_node_name():
    parameters = yaml.safe_load((REPOSITORY / "config" / "localizer.yaml").read_text())
    assert list(parameters) == ["/**"]


def test_building_messages_outside_a_venv_is_refused_in_one_line():
    # The interpreter that made this environment, without it.
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}"
    if sys.prefix == sys.base_prefix or not base.exists():
        pytest.skip("the tests do not run in a virtual environment")
    command = [str(base), "-I", str(REPOSITORY / "tools" / "build_interfaces.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "build_interfaces: run me with the python of a virtual environment (make venv does)"
    ]


def test_pip_installs_every_file_of_config_and_launch():
    data = metadata()["options.data_files"]
    installed = {path for files in data.values() for name in files.split() for path in glob(name)}
    for folder in ("config", "launch"):
        files = {path for path in (REPOSITORY / folder).rglob("*.*") if path.suffix != ".pyc"}
        assert files <= installed


def glob(pattern: str) -> set[Path]:
    return set(REPOSITORY.glob(pattern))
