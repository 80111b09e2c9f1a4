"""Service load_map of the retrieval node, over DDS: another map while the one in use answers."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from retrieval_bench import Floor, RetrievalBench, message_of, view, wait
from robot_calls import Operator

from pixloc_core.errors import MapError
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.index import RetrievalIndex
from pixloc_core.retrieval.index_file import index_path
from pixloc_ros import retrieval_server
from pixloc_ros.interfaces import LoadMap
from pixloc_ros.map_loading import NotNowError
from pixloc_ros.retrieval_config import RetrievalNodeConfig
from pixloc_ros.retrieval_opening import open_index
from pixloc_ros.retrieval_server import RetrievalServer

pytest.importorskip("faiss", reason="needs faiss-cpu (the extra `retrieval`)")

CODES = LoadMap.Response
SIFT = ("-p", "descriptor.vlad.features:=[sift]")


class Loading:
    """A retrieval node with a map, and an operator who calls its load_map."""

    def __init__(self, bench: RetrievalBench, first: Path) -> None:
        self.bench, self.first = bench, first
        self.operator = Operator(bench.asker)
        bench.wait_until_open()

    def start_loading(self, path: object) -> Any:
        """Future of the answer."""
        request = LoadMap.Request(map_url=str(path))
        return self.operator.start(LoadMap, "retrieval/load_map", request)

    def load_map(self, path: object) -> tuple[int, str]:
        """Result and message."""
        future = self.start_loading(path)
        wait(future.done, "answer of load_map")
        return future.result().result, future.result().message

    def served(self, floor: Floor) -> tuple[str, str]:
        """Map and best image of the answer to an image of a room."""
        answer = self.bench.ask(image=message_of(view(floor.world, 2)))
        assert answer.success, answer.message
        return answer.map_id, answer.images[0]

    def values(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.bench.report().values}


@pytest.fixture
def make_loading(make_retrieval_bench, downstairs: Floor, tmp_path: Path):
    """Makes a node that serves downstairs/first.h5; other maps lie in tmp_path."""
    folder = tmp_path / "downstairs"
    folder.mkdir()
    first = downstairs.copy(folder, "first")

    def make(*arguments: str) -> Loading:
        bench = make_retrieval_bench("-p", f"map:={first}", *SIFT, *arguments)
        return Loading(bench, first)

    return make


@pytest.fixture
def loading(make_loading) -> Loading:
    return make_loading()


class Gate:
    """Holds the opening of one map up, between two images of its making.

    Attributes:
        held: Its file.
        entered: Set when it is being opened.
        opened: Set, it goes on.
        count: How often it was opened.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: Path) -> None:
        self.held = held.resolve()
        self.entered, self.opened = threading.Event(), threading.Event()
        self.count = 0
        monkeypatch.setattr(retrieval_server, "open_index", self._open)

    def _open(self, config, path, check, on_making, progress) -> RetrievalIndex:
        if Path(path).resolve() == self.held:
            self.count += 1
            on_making()
            self.entered.set()
            while not self.opened.wait(0.05):
                progress(1, 6)
        return open_index(config, path, check, on_making, progress)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Maps that the server was asked for."""
    paths: list[str] = []
    begin = RetrievalServer._begin

    def record(self, map_path: str):
        found = begin(self, map_path)
        paths.append(map_path)
        return found

    monkeypatch.setattr(RetrievalServer, "_begin", record)
    return paths


def test_another_map_is_served_after_load_map(loading, downstairs, upstairs, tmp_path):
    assert loading.served(downstairs) == (downstairs.map_id, "map/02.png")
    second = upstairs.copy(tmp_path, "second")
    assert loading.load_map(f"file://{second}") == (CODES.RESULT_SUCCESS, "")
    assert loading.served(upstairs) == (upstairs.map_id, "map/02.png")
    values = loading.values()
    assert (values["map"], values["map_id"]) == (str(second), upstairs.map_id)
    assert values["load_problem"] == values["opening"] == ""


def damage_index(floor: Floor, folder: Path) -> Path:
    path = floor.copy(folder, "second")
    whole = index_path(path).read_bytes()
    index_path(path).write_bytes(whole[: len(whole) // 2])
    return path


def index_of_another_map(floor: Floor, folder: Path) -> Path:
    path = floor.copy(folder, "second", index=False)
    shutil.copy(folder / "downstairs" / "first.retrieval.h5", index_path(path))
    return path


REFUSED = {
    "no such file": (
        lambda floor, folder: folder / "nowhere.h5",
        CODES.RESULT_MAP_DOES_NOT_EXIST,
        "no such file, expected a feature map",
    ),
    "a folder": (
        lambda floor, folder: folder,
        CODES.RESULT_MAP_DOES_NOT_EXIST,
        "a folder, expected a feature map",
    ),
    "no map": (
        lambda floor, folder: shutil.copy(floor.images / "map/00.png", folder / "picture.h5"),
        CODES.RESULT_INVALID_MAP_DATA,
        "picture.h5",
    ),
    "no index, no images": (
        lambda floor, folder: floor.copy(folder, "second", index=False),
        CODES.RESULT_INVALID_MAP_DATA,
        "no such retrieval index; make it with `pixloc map retrieval`, or put its images into ",
    ),
    "damaged index": (damage_index, CODES.RESULT_INVALID_MAP_DATA, "second.retrieval.h5"),
    "index of another map": (
        index_of_another_map,
        CODES.RESULT_INVALID_MAP_DATA,
        "index of another map",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_map_that_cannot_be_served_leaves_the_one_in_use(
    loading, downstairs, upstairs, tmp_path, case
):
    prepare, code, words = REFUSED[case]
    result, message = loading.load_map(prepare(upstairs, tmp_path))
    assert result == code
    assert words in message
    assert "\n" not in message
    assert loading.served(downstairs)[0] == downstairs.map_id
    report = loading.bench.report()
    assert (report.level, report.message) == (DiagnosticStatus.OK, "6 images")


def test_why_a_map_is_not_served_stays_on_diagnostics_until_one_is(loading, upstairs, tmp_path):
    second = upstairs.copy(tmp_path, "second", index=False)
    _, message = loading.load_map(second)
    assert loading.values()["load_problem"] == message
    assert loading.load_map(loading.first)[0] == CODES.RESULT_SUCCESS
    assert loading.values()["load_problem"] == ""


def test_an_index_is_made_of_the_images_that_lie_beside_the_new_map(loading, upstairs, tmp_path):
    second = upstairs.copy(tmp_path, "second", index=False)
    shutil.copytree(upstairs.images, tmp_path / "second.images")
    assert loading.load_map(second) == (CODES.RESULT_SUCCESS, "")
    assert loading.served(upstairs) == (upstairs.map_id, "map/02.png")
    assert index_path(second).is_file()


def test_images_of_the_first_map_make_no_index_of_another(make_loading, upstairs, tmp_path):
    # Those of both maps have the same names.
    loading = make_loading("-p", f"images:={upstairs.images}")
    second = upstairs.copy(tmp_path, "second", index=False)
    assert loading.load_map(second)[0] == CODES.RESULT_INVALID_MAP_DATA
    # The map of the parameters itself may be loaded again, and is made of them.
    index_path(loading.first).unlink()
    assert loading.load_map(loading.first) == (CODES.RESULT_SUCCESS, "")
    assert index_path(loading.first).is_file()


def test_the_map_in_use_answers_while_the_index_of_another_is_made(
    loading, downstairs, upstairs, tmp_path, monkeypatch, begun
):
    second = upstairs.copy(tmp_path, "second")
    gate = Gate(monkeypatch, second)
    future = loading.start_loading(second)
    wait(gate.entered.is_set, "opening")
    try:
        assert loading.served(downstairs)[0] == downstairs.map_id
        expected = f"6 images; {second}: the index is being made: 1 of 6 images"
        wait(lambda: loading.bench.report().message == expected, "progress")
        assert loading.bench.report().level == DiagnosticStatus.WARN
        again = loading.start_loading(second)
        assert loading.served(downstairs)[0] == downstairs.map_id
        wait(lambda: begun == [str(second)] * 2, "second request")
        assert not any(answer.done() for answer in (future, again))
    finally:
        gate.opened.set()
    for answer in (future, again):
        wait(answer.done, "answer")
        assert answer.result().result == CODES.RESULT_SUCCESS
    assert gate.count == 1
    assert loading.served(upstairs)[0] == upstairs.map_id


def test_an_index_in_the_making_is_given_up_for_a_later_map_that_can_be_served(
    loading, downstairs, upstairs, tmp_path, monkeypatch
):
    second, third = upstairs.copy(tmp_path, "second"), upstairs.copy(tmp_path, "third")
    missing = upstairs.copy(tmp_path, "missing", index=False)
    gate = Gate(monkeypatch, second)
    future = loading.start_loading(second)
    wait(gate.entered.is_set, "opening")
    try:
        assert loading.load_map(missing)[0] == CODES.RESULT_INVALID_MAP_DATA
        assert loading.values()["opening_map"] == str(second)
        assert loading.load_map(third) == (CODES.RESULT_SUCCESS, "")
        wait(future.done, "answer")
    finally:
        gate.opened.set()
    answer = future.result()
    assert answer.result == CODES.RESULT_UNDEFINED_FAILURE
    assert answer.message == f"{second}: given up: {third} is served"
    values = loading.values()
    assert (values["map"], values["load_problem"]) == (str(third), "")
    assert loading.served(upstairs)[0] == upstairs.map_id


def test_an_index_in_the_making_is_not_given_up_for_a_map_that_then_fails(
    loading, upstairs, tmp_path, monkeypatch
):
    second = upstairs.copy(tmp_path, "second")
    third = upstairs.copy(tmp_path, "third", index=False)
    shutil.copytree(upstairs.images, tmp_path / "third.images")
    (tmp_path / "third.images" / "map" / "03.png").write_bytes(b"no image")
    gate = Gate(monkeypatch, second)
    first_wish = loading.start_loading(second)
    wait(gate.entered.is_set, "opening")
    try:
        later = loading.start_loading(third)
        said = f"the index is made after that of {second}"
        wait(lambda: loading.values()["opening"] == said, "waiting for its turn")
    finally:
        gate.opened.set()
    for future in (first_wish, later):
        wait(future.done, "answer")
    assert first_wish.result().result == CODES.RESULT_SUCCESS
    assert later.result().result == CODES.RESULT_INVALID_MAP_METADATA
    assert "03.png" in later.result().message
    assert loading.served(upstairs)[0] == upstairs.map_id
    values = loading.values()
    assert (values["map"], values["load_problem"]) == (str(second), later.result().message)


def test_a_map_asked_for_again_is_the_newest_wish(loading, upstairs, tmp_path, monkeypatch, begun):
    second, third = upstairs.copy(tmp_path, "second"), upstairs.copy(tmp_path, "third")
    gate = Gate(monkeypatch, second)
    futures = [loading.start_loading(second)]
    wait(gate.entered.is_set, "opening")
    try:
        server = loading.bench.node._server
        on_the_way, _ = server._begin(str(third))
        futures.append(loading.start_loading(second))
        wait(lambda: len(begun) == 3, "second request")
        server._open(on_the_way)
        assert loading.values()["map"] == str(third)
    finally:
        gate.opened.set()
    for future in futures:
        wait(future.done, "answer")
        assert future.result().result == CODES.RESULT_SUCCESS
    assert loading.values()["map"] == str(second)


def test_a_map_with_a_relative_path_is_not_opened_twice(
    make_retrieval_bench, downstairs, tmp_path, monkeypatch, begun
):
    path = downstairs.copy(tmp_path, "first")
    monkeypatch.chdir(tmp_path)
    gate = Gate(monkeypatch, path)
    bench = make_retrieval_bench("-p", "map:=first.h5", *SIFT)
    wait(gate.entered.is_set, "opening")
    try:
        request = LoadMap.Request(map_url=str(path))
        future = Operator(bench.asker).start(LoadMap, "retrieval/load_map", request)
        wait(lambda: len(begun) == 2, "request")
        assert begun == ["first.h5", str(path)]
    finally:
        gate.opened.set()
    wait(future.done, "answer")
    assert future.result().result == CODES.RESULT_SUCCESS
    assert gate.count == 1


def test_all_who_ask_for_a_map_hear_why_it_is_not_served(
    loading, upstairs, tmp_path, monkeypatch, begun
):
    second = upstairs.copy(tmp_path, "second", index=False)
    gate = Gate(monkeypatch, second)
    futures = [loading.start_loading(second)]
    wait(gate.entered.is_set, "opening")
    futures.append(loading.start_loading(second))
    wait(lambda: begun == [str(second)] * 2, "second request")
    gate.opened.set()
    for future in futures:
        wait(future.done, "answer")
        assert future.result().result == CODES.RESULT_INVALID_MAP_DATA
        assert "no such retrieval index" in future.result().message


def test_a_node_that_ends_gives_up_what_it_makes(loading, upstairs, tmp_path, monkeypatch):
    second = upstairs.copy(tmp_path, "second")
    gate = Gate(monkeypatch, second)
    future = loading.start_loading(second)
    wait(gate.entered.is_set, "opening")
    loading.bench.node._server.stop()
    wait(future.done, "answer")
    assert future.result().message == f"{second}: given up: the node ends"


def test_a_stage_that_cannot_be_interrupted_is_not_waited_for_for_ever(
    downstairs, monkeypatch, caplog
):
    entered, opened = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        entered.set()
        assert opened.wait(60.0)
        raise MapError("late")

    monkeypatch.setattr(retrieval_server, "open_index", hang)
    server = RetrievalServer(RetrievalNodeConfig(map=str(downstairs.map_path)))
    server.start()
    try:
        assert entered.wait(60.0)
        assert not server.stop(patience_s=0.1)
    finally:
        opened.set()
    assert (
        f"still being opened after 0.1 s, and left at that: {downstairs.map_path}" in caplog.text
    )
    assert server.stop()


def test_a_map_that_is_given_up_while_its_file_is_read_goes_no_further(downstairs, monkeypatch):
    server = RetrievalServer(RetrievalNodeConfig(map=str(downstairs.map_path)))
    stopping: list[threading.Thread] = []

    def read_and_stop(path: str) -> FeatureMap:
        stopping.append(threading.Thread(target=server.stop))
        stopping[0].start()
        wait(lambda: server._openings[0].given_up, "giving up")
        return read(path)

    read = FeatureMap.open
    monkeypatch.setattr(FeatureMap, "open", read_and_stop)
    further: list[Any] = []
    monkeypatch.setattr(RetrievalIndex, "open", lambda *args, **_: further.append(args))
    with pytest.raises(NotNowError, match="given up: the node ends"):
        server.open()
    stopping[0].join(60.0)
    assert not stopping[0].is_alive()
    assert not further
