"""Pickles are read as numbers and texts; what they want to run is refused."""

import pickle
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixloc_core.errors import MapError
from pixloc_core.training.collections.restricted_pickle import read_pickle

ARRAYS = {
    "points3D": np.arange(12.0).reshape(4, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "big_endian": np.arange(5, dtype=">f4"),
    "transposed": np.arange(12.0).reshape(3, 4).T[::2],
    "empty": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "nested": [(np.eye(3), np.ones(3)), (np.eye(3) * 2, np.zeros(3))],
    "scalar": np.float64(1.5),
    "names": ["a.jpg", "ü.jpg"],
    "number": 7,
}


def write(path: Path, content: Any, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def assert_equal(found: Any, wanted: Any) -> None:
    if isinstance(wanted, list | tuple):
        assert type(found) is type(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert_equal(a, b)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_and_texts_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    found = read_pickle(write(tmp_path / "a.pkl", ARRAYS, protocol))
    assert list(found) == list(ARRAYS)
    for name, wanted in ARRAYS.items():
        assert_equal(found[name], wanted)
    assert found["points3D"].dtype == np.float64
    assert found["fortran"].dtype == np.int32


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_names_of_older_numpy_are_known(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"a": np.arange(3), "b": np.float32(2)}, protocol=protocol)
    # Shorter module names need other lengths in the short texts of protocol 4 and 5.
    for name in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + name, b"numpy.core." + name
        content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
        content = content.replace(b"c" + new + b"\n", b"c" + old + b"\n")
    assert b"_core" not in content
    if protocol >= 4:
        content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]
    (tmp_path / "old.pkl").write_bytes(content)
    found = read_pickle(tmp_path / "old.pkl")
    np.testing.assert_array_equal(found["a"], np.arange(3))
    assert found["b"] == 2


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_payload_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for call in (
        Runs(subprocess.check_output, ["touch", str(trace)]),
        Runs(open, str(trace), "w"),
        Runs(exec, f"open({str(trace)!r}, 'w')"),
        Runs(np.save, str(trace), 1),
    ):
        path = write(tmp_path / "bad.pkl", {"points3D": [call]}, protocol)
        with pytest.raises(MapError, match=r"bad\.pkl: refused \(it asks for"):
            read_pickle(path)
    assert not trace.exists()
    assert not trace.with_suffix(".npy").exists()


def test_arrays_of_objects_and_of_compound_types_are_refused(tmp_path: Path) -> None:
    for array in (
        np.array([{"a": 1}], dtype=object),
        np.zeros(2, dtype=[("x", "f8")]),
        np.array(["a", "b"]),
    ):
        path = write(tmp_path / "bad.pkl", {"points3D": array}, 4)
        with pytest.raises(MapError, match="refused"):
            read_pickle(path)


def test_texts_encoded_otherwise_are_refused(tmp_path: Path) -> None:
    content = b"\x80\x02}q\x00X\x01\x00\x00\x00ac_codecs\nencode\nX\x01\x00\x00\x00b"
    content += b"X\x06\x00\x00\x00base64\x86Rs."
    (tmp_path / "bad.pkl").write_bytes(content)
    with pytest.raises(MapError, match="'base64', expected latin1"):
        read_pickle(tmp_path / "bad.pkl")


def test_damaged_files_are_named_in_one_line(tmp_path: Path) -> None:
    good = pickle.dumps(ARRAYS)
    for number, content in enumerate((b"", b"text", good[:100], b"\x80\x04\x95" + good[3:40])):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(content)
        with pytest.raises(MapError, match=rf"{number}\.pkl: (damaged|refused)") as caught:
            read_pickle(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(MapError, match="No such file"):
        read_pickle(tmp_path / "none.pkl")
    with pytest.raises(MapError, match="holds a list, expected a dictionary"):
        read_pickle(write(tmp_path / "list.pkl", [1], 4))
