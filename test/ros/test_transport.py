import os
from pathlib import Path

import pytest

from pixloc_ros.transport import find_config, use_image_profile

NAMES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.fixture(autouse=True)
def no_profile(monkeypatch):
    for name in NAMES:
        # Noted by monkeypatch, so that what the test sets is taken back, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_shipped_profile_is_chosen_when_there_is_no_other():
    use_image_profile()
    profile = Path(os.environ[NAMES[0]])
    assert profile.name == "shm.xml"
    assert profile.is_file()


@pytest.mark.parametrize("name", NAMES)
def test_profile_of_the_user_stays(monkeypatch, name):
    monkeypatch.setenv(name, "mine.xml")
    use_image_profile()
    assert [os.environ.get(each) for each in NAMES].count("mine.xml") == 1
    assert sum(each in os.environ for each in NAMES) == 1


def test_file_of_an_installation_is_found(monkeypatch, tmp_path):
    file = tmp_path / "share" / "pixloc_ros" / "config" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert find_config("mine.yaml") is None
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert find_config("mine.yaml") == file
