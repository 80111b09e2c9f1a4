"""Reading numbers and texts out of a pickle without running anything that is in it.

A pickle is a program: it names functions and has them called. Here only the names that arrays of
numbers are made of are known, and each of them stands for a harmless double defined below, so that
not even NumPy's own reconstruction sees what the file says.
"""

import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixloc_core.errors import MapError

_NUMBER_TYPE = re.compile(r"[biuf](1|2|4|8)")


class _NumberType:
    """Double of `numpy.dtype`: whole numbers, floats and booleans of a byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER_TYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"arrays of type {code!r}, expected numbers")
        self._code = code
        self._order = "="

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("arrays of compound types, expected numbers")
        self._order = state[1]

    def read(self, content: bytes) -> NDArray[Any]:
        """The numbers in the byte order of this machine."""
        stored = np.frombuffer(content, np.dtype(self._order + self._code))
        return stored.astype(stored.dtype.newbyteorder("="))


class _Array:
    """Double of `numpy.ndarray` while it is put together."""

    value: NDArray[Any]

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, number_type, is_fortran, content = state
        self.value = _array(content, number_type, shape, "F" if is_fortran else "C")


def _array(content: Any, number_type: Any, shape: Any, order: Any, *_: Any) -> NDArray[Any]:
    if not isinstance(number_type, _NumberType) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of a form that is not known")
    if isinstance(content, str):
        # Strings of Python 2.
        content = content.encode("latin1")
    return number_type.read(bytes(content)).reshape(shape, order=order)


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _scalar(number_type: Any, content: Any) -> Any:
    return _array(content, number_type, (1,), "C")[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes written in {encoding!r}, expected latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What the content of an empty array is called in the oldest format."""
    return b""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _NumberType,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): double
        for core in ("core", "_core")
        for module, name, double in (
            ("multiarray", "_reconstruct", _empty_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array),
        )
    },
}


class RestrictedUnpickler(pickle.Unpickler):
    """Knows arrays of numbers and what needs no name: texts, numbers, lists, dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        """The harmless double of a known name.

        Raises:
            UnpicklingError: For every other name; nothing is imported.
        """
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, expected arrays only")
        return _KNOWN[module, name]


def read_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dictionary of texts, numbers, arrays, and lists of them.

    Raises:
        MapError: If the file is missing, damaged, no dictionary, or asks for anything else.
    """
    try:
        with Path(path).open("rb") as file:
            content = _resolved(RestrictedUnpickler(file).load())
    except OSError as error:
        raise MapError(f"{path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise MapError(f"{path}: refused ({' '.join(str(error).split())})") from error
    except Exception as error:
        raise MapError(f"{path}: damaged pickle ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise MapError(f"{path}: holds a {type(content).__name__}, expected a dictionary")
    return content


def _resolved(content: Any) -> Any:
    """The same with finished arrays."""
    if isinstance(content, _Array):
        return content.value
    if isinstance(content, dict):
        return {key: _resolved(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(_resolved(value) for value in content)
    return content
