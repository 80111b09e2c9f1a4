"""The retrieval node as others see it: requests over DDS, diagnostics, a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from retrieval_bench import Floor, calibration, message_of, view
from sensor_msgs.msg import CompressedImage

from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_core.retrieval.index_file import index_path
from pixloc_ros import retrieval_config, retrieval_server
from pixloc_ros.conversions import pose_from_message
from pixloc_ros.retrieval_opening import open_index

pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")

REPOSITORY = Path(__file__).resolve().parents[2]
ALL = ("-p", "search.min_motion:=0.0")


@pytest.fixture
def make_bench(make_retrieval_bench):
    """Makes a retrieval node, and somebody who asks it."""
    return make_retrieval_bench


@pytest.fixture(scope="session")
def room(downstairs: Floor) -> Path:
    """Folder with a map and its index."""
    return downstairs.map_path.parent


@pytest.fixture
def bare(map_path: Path, tmp_path: Path) -> Path:
    """The map alone."""
    return Path(shutil.copy(map_path, tmp_path / "map.h5"))


def test_an_image_is_answered_with_map_images_poses_and_scores(make_bench, world, room):
    bench = make_bench("-p", f"map:={room}/map.h5", *ALL)
    bench.wait_until_open()
    answer = bench.ask(image=message_of(view(world, 2)), camera_info=calibration(), max_results=3)
    assert (answer.success, answer.message) == (True, "")
    assert answer.map_id == FeatureMap.open(room / "map.h5").content_id
    assert answer.images[0] == world.names[2]
    assert len(answer.images) == len(answer.poses) == len(answer.scores) == 3
    assert 1 >= answer.scores[0] > answer.scores[1] >= answer.scores[2]
    for name, pose in zip(answer.images, answer.poses, strict=True):
        expected = world.cam_from_map[world.names.index(name)].inv()
        torch.testing.assert_close(pose_from_message(pose).data, expected.data)


def test_compressed_images_and_no_calibration_do_as_well(make_bench, world, room):
    bench = make_bench("-p", f"map:={room}/map.h5", *ALL, "-p", "search.max_results:=4")
    bench.wait_until_open()
    jpeg = cv2.imencode(".jpg", view(world, 3)[..., ::-1])[1]
    answer = bench.ask(compressed=CompressedImage(format="jpeg", data=jpeg.tobytes()))
    assert answer.success, answer.message
    assert answer.images[0] == world.names[3]
    assert len(answer.images) == 4


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        (lambda image: {}, "the request has no image"),
        (
            lambda image: {"image": image, "compressed": CompressedImage(format="x", data=b"x")},
            "both image and compressed",
        ),
        (
            lambda image: {"compressed": CompressedImage(format="jpeg", data=b"no image")},
            "cannot be decoded",
        ),
        (lambda image: {"image": message_of(np.zeros((240, 320, 3), np.uint8))}, "single value"),
        (
            lambda image: {"image": image, "camera_info": calibration(width=640)},
            "image is 320x240, but camera_info describes 640x240",
        ),
    ],
)
def test_a_bad_request_is_refused_in_one_line_and_the_next_one_answered(
    make_bench, world, room, request_of, said
):
    bench = make_bench("-p", f"map:={room}/map.h5")
    bench.wait_until_open()
    good = message_of(view(world, 1))
    refused = bench.ask(**request_of(good))
    assert not refused.success
    assert said in refused.message
    assert "\n" not in refused.message
    assert (len(refused.images), len(refused.poses), len(refused.scores)) == (0, 0, 0)
    assert bench.ask(image=good).success
    values = {pair.key: pair.value for pair in bench.report().values}
    assert (values["requests"], values["refused"]) == ("2", "1")
    assert said in values["last_refusal"]


def test_a_request_before_the_index_is_open_is_refused(
    make_bench, world, room, monkeypatch: pytest.MonkeyPatch
):
    opened = threading.Event()

    def open_late(*arguments: Any) -> RetrievalIndex:
        assert opened.wait(60.0)
        return open_index(*arguments)

    monkeypatch.setattr(retrieval_server, "open_index", open_late)
    bench = make_bench("-p", f"map:={room}/map.h5")
    try:
        answer = bench.ask(image=message_of(view(world, 1)))
        assert (answer.success, answer.message) == (False, "the index is being opened")
        report = bench.report()
    finally:
        opened.set()
    assert report.name == "retrieval: index"
    assert (report.level, report.message) == (DiagnosticStatus.WARN, "the index is being opened")


def test_a_fault_of_ours_is_answered_and_survived(make_bench, world, room, monkeypatch):
    bench = make_bench("-p", f"map:={room}/map.h5")
    bench.wait_until_open()
    image = message_of(view(world, 1))

    def fail(*_: Any) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(RetrievalIndex, "query", fail)
        answer = bench.ask(image=image)
    assert not answer.success
    assert answer.message == "internal error: RuntimeError: out of luck"
    assert bench.ask(image=image).success


def test_diagnostics_describe_the_index(make_bench, room):
    bench = make_bench("-p", f"map:={room}/map.h5")
    bench.wait_until_open()
    report = bench.report()
    assert (report.level, report.message) == (DiagnosticStatus.OK, "6 images")
    values = {pair.key: pair.value for pair in report.values}
    assert values["map"] == f"{room}/map.h5"
    assert (values["descriptor"], values["images"], values["requests"]) == ("vlad", "6", "0")


def test_without_an_index_one_line_says_how_it_is_made(make_bench, world, bare):
    bench = make_bench("-p", f"map:={bare}")
    bench.wait_until_open()
    answer = bench.ask(image=message_of(view(world, 1)))
    expected = (
        f"{index_path(bare)}: no such retrieval index; make it with `pixloc map retrieval`, or "
        "give the folder of the images (images)"
    )
    assert (answer.success, answer.message) == (False, expected)
    report = bench.report()
    assert (report.level, report.message) == (DiagnosticStatus.ERROR, expected)


def test_the_index_is_made_where_the_images_are_known(make_bench, world, bare, map_path):
    index_path(bare).write_text("of no use")
    features = "descriptor.vlad.features:=[sift]"
    images = f"images:={map_path.parent}/images"
    bench = make_bench("-p", f"map:={bare}", "-p", images, "-p", features)
    bench.wait_until_open()
    answer = bench.ask(image=message_of(view(world, 4)))
    assert answer.success, answer.message
    assert answer.images[0] == world.names[4]
    assert len(RetrievalIndex.open(FeatureMap.open(bare))) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "parameter map is empty"),
        (["-p", "map:=nowhere.h5"], "nowhere.h5: no such feature map"),
    ],
)
def test_a_map_that_cannot_be_used_is_named(make_bench, arguments, said):
    bench = make_bench(*arguments)
    bench.wait_until_open()
    answer = bench.ask()
    assert not answer.success
    assert said in answer.message


def test_the_parameter_file_holds_all_parameters():
    written = (REPOSITORY / "config" / "retrieval.yaml").read_text()
    assert written == retrieval_config.to_yaml()


def run_process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pixloc_ros.retrieval_node", "--ros-args", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


def test_a_wrong_parameter_ends_the_process_with_one_line():
    process = run_process("-p", "search.max_results:=0")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "search.max_results" in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_the_process_takes_its_parameter_file_and_ends_in_order(room):
    file = str(REPOSITORY / "config" / "retrieval.yaml")
    process = run_process("--params-file", file, "-p", f"map:={room}/map.h5")
    said = ""
    for line in process.stdout:
        said += line
        if "is ready" in line or "ERROR" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert "index of 6 images is ready" in said
    assert process.returncode == 0, said + rest
    assert "Traceback" not in said + rest
    assert "has no effect" not in said + rest
