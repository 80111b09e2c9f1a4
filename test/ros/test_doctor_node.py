"""What the doctor makes of what localizer and retrieval node say of themselves."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from healthy_system import HEALTHY, Fault, names_alone, node, settings, told, wrong
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from pixloc_ros.doctor.check_map import look_at_map, out_of_sight
from pixloc_ros.doctor.findings import Level
from pixloc_ros.doctor.graph import Graph
from pixloc_ros.doctor.judge import judge
from pixloc_ros.doctor.snapshot import (
    IMAGE,
    DiagnosticSeen,
    MapSeen,
    RetrievalSeen,
    Settings,
    Snapshot,
    StatusSeen,
)

OURS = {"map": "/maps/map.h5", "map_id": "a1"}
THEIRS = {"map": "/maps/old.h5", "map_id": "b2"}


def retrieval(
    index: dict[str, str] | None, level: int = 0, seen: Snapshot = HEALTHY, message: str = "index"
) -> Snapshot:
    """A retrieval node that says this on /diagnostics."""
    entry = None if index is None else DiagnosticSeen("retrieval: index", level, message, index)
    served = RetrievalSeen("/retrieve_pose", ("/retrieval",), entry)
    return replace(seen, node=replace(seen.node, retrieval=served))


def unseen(why: str, seen: Snapshot = HEALTHY, path: str = "/robot/map.h5") -> Snapshot:
    return replace(seen, map=MapSeen(path, unseen=why))


def taken(count: str) -> Snapshot:
    """No message on status, and so many images taken up."""
    counts = DiagnosticSeen("localizer: input", 0, "10 images/s", {"images_taken": count})
    last = DiagnosticSeen("localizer: localization", 0, "", {**OURS, "latency_ms": "4200.0"})
    return node(status=None, diagnostics=(counts, last))


LOST = node(status=StatusSeen("LOST", "moved by hand", "NOT_LOCALIZED", ""))
FAULTS: dict[str, Fault] = {
    "retrieval serves another map": (
        retrieval(THEIRS),
        Level.ERROR,
        "/retrieve_pose serves map b2 (/maps/old.h5), the localizer uses a1 (/maps/map.h5)",
        "call /retrieval/load_map with map_url /maps/map.h5",
    ),
    "retrieval does not follow": (
        retrieval(THEIRS, seen=told(**OURS, retrieval_problem="it does not follow: no index")),
        Level.ERROR,
        "uses a1 (/maps/map.h5); it does not follow: no index",
        "load_map",
    ),
    "retrieval says why it has another map": (
        retrieval({**THEIRS, "load_problem": "map.retrieval.h5: damaged"}),
        Level.ERROR,
        "uses a1 (/maps/map.h5); map.retrieval.h5: damaged",
        "load_map",
    ),
    "retrieval has no index": (
        retrieval({"map": "/maps/map.h5"}, 2, message="no such retrieval index"),
        Level.ERROR,
        "/diagnostics: retrieval: index: no such retrieval index",
        "docs/retrieval.md",
    ),
    "index on its way": (
        retrieval({"map": "/maps/map.h5", "opening": "12 of 56"}, 1, message="12 of 56"),
        Level.WARN,
        "retrieval: index: 12 of 56",
        "docs/retrieval.md",
    ),
    "somebody else's server of another map": (
        retrieval(None, seen=told(**OURS, retrieval_problem="retrieve_pose serves map b2")),
        Level.WARN,
        "retrieval, when it was last asked: retrieve_pose serves map b2",
        "docs/retrieval.md",
    ),
    "lost, without retrieval": (LOST, Level.WARN, "is LOST", "or start the retrieval node"),
    "file replaced": (
        replace(HEALTHY, map=replace(HEALTHY.map, map_id="c3")),
        Level.WARN,
        "map /maps/map.h5 has the content c3, but the node uses a1 of /maps/map.h5",
        "load_map",
    ),
    "relative path of a node that says no more": (
        unseen("the path is relative", told(), "out/map.h5"),
        Level.WARN,
        "map out/map.h5 could not be checked from here: the path is relative",
        "--map",
    ),
    "no such file, of a node that has none open": (
        unseen("there is no such file", told(map="/robot/map.h5", map_id="")),
        Level.ERROR,
        "map: /robot/map.h5: there is no such file",
        "that is meant",
    ),
    "images not known": (
        replace(HEALTHY, cameras=()),
        Level.WARN,
        "it is not known to which images the node listens",
        "--image-topic",
    ),
    "image in work for long": (
        taken("3"),
        Level.WARN,
        "no message on status for 7 s; the node has taken up 3 images so far, the last answer "
        "took 4.2 s",
        "on a busy machine",
    ),
    "no image taken up": (
        taken("0"),
        Level.WARN,
        "no message on status for 7 s, and the node has taken up no image",
        "images and time",
    ),
}
# Its camera frames are not known either.
TWOFOLD = ("images not known",)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_alone_with_what_to_do(fault: str):
    names_alone(FAULTS[fault], alone=fault not in TWOFOLD)


@pytest.mark.parametrize(
    "seen",
    [
        retrieval(OURS),
        retrieval({"map": "map.h5"}),
        # It was asked before its index was open, and never since.
        retrieval(OURS, seen=told(**OURS, retrieval_problem="the index is being opened")),
        unseen("there is no such file on this machine"),
        replace(HEALTHY, map=MapSeen("/maps/map.h5", "weights.pt: no such file", map_id="a1")),
    ],
    ids=["same map", "no id", "old problem", "map of another machine", "weights elsewhere"],
)
def test_what_is_well_is_not_found_wrong(seen: Snapshot):
    assert wrong(seen) == []


def test_a_map_on_its_way_is_waited_for():
    opening = {**THEIRS, "opening_map": "/maps/map.h5", "opening": "opens"}
    (found,) = [one for one in wrong(retrieval(opening, 1)) if "serves map b2" in one[1]]
    assert found[0] is Level.WARN
    assert "/maps/map.h5 is being opened" in found[1]
    assert found[2] == "wait until it is served"


def test_to_start_retrieval_is_no_advice_where_it_runs():
    problem = "retrieve_pose has not answered for 2 s"
    lost = replace(told(**OURS, retrieval_problem=problem), cameras=HEALTHY.cameras)
    lost = replace(lost, node=replace(lost.node, status=LOST.node.status))
    ((_, _, advice),) = wrong(retrieval(OURS, seen=lost))
    assert "start the retrieval node" not in advice
    assert problem in advice


def test_nothing_is_judged_by_the_defaults_of_a_node_that_runs():
    silent = node(silent=True, status=None, lifecycle="", diagnostics=())
    seen = replace(
        silent,
        settings=Settings(),
        map=None,
        cameras=(),
        edges=(),
        clock=replace(HEALTHY.clock, publishers=("/player",), count=100),
    )
    ((level, what, _),) = wrong(seen)
    assert level is Level.WARN
    assert "does not answer" in what


def test_an_index_is_named_only_where_its_service_is():
    lines = [finding.what for finding in judge(retrieval(OURS))]
    assert "service /retrieve_pose is there (/retrieval)" in lines
    absent = replace(HEALTHY, settings=settings(prior_source="retrieval"))
    assert "there is no service /retrieve_pose" in " ".join(what for _, what, _ in wrong(absent))


def test_a_relative_path_is_never_looked_up_here(map_path: Path, monkeypatch):
    monkeypatch.chdir(map_path.parent)
    assert "relative" in out_of_sight(Path(map_path.name))
    assert "no such file on this machine" in out_of_sight(map_path.with_name("other.h5"))
    assert out_of_sight(map_path) == ""


def test_a_map_with_unusable_weights_still_says_which_it_is(map_path: Path):
    whole = look_at_map(map_path)
    spoilt = look_at_map(map_path, str(map_path.with_name("none.safetensors")))
    assert whole.map_id
    assert spoilt.problem
    assert spoilt.map_id == whole.map_id


def test_outputs_of_a_node_whose_name_is_not_heard_yet_are_not_offered():
    def publisher(space: str, name: str) -> Any:
        profile = SimpleNamespace(
            reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
        )
        return SimpleNamespace(
            node_namespace=space, node_name=name, topic_type=IMAGE, qos_profile=profile
        )

    unknown = publisher("_NODE_NAMESPACE_UNKNOWN_", "_NODE_NAME_UNKNOWN_")
    topics = {
        "/overlay": unknown,
        "/front/confidence": unknown,
        "/camera/image": unknown,
        "/hypotheses/overlay": publisher("/", "viewer"),
        "/debug": publisher("/", "localizer"),
    }
    graph = Graph(
        SimpleNamespace(
            get_topic_names_and_types=lambda: [(name, [IMAGE]) for name in topics],
            get_publishers_info_by_topic=lambda name: [topics[name]],
        )
    )
    assert set(graph.offered("localizer")) == {"/camera/image", "/hypotheses/overlay"}
