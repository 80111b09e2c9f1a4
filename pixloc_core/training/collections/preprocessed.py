"""Collections that `pixloc preprocess` wrote, or that lie in PixLoc's own training files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixloc_core.errors import MapError, PixlocError
from pixloc_core.training.collections.collection_file import SUFFIX, read_collection
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.collections.restricted_pickle import read_pickle

Entries = dict[str, Any]
Convert = Callable[[Entries, str, Path], ImageCollection]

# What a damaged entry makes of the conversion.
_DAMAGE = (KeyError, ValueError, TypeError, IndexError, AttributeError, PixlocError)


def open_files(
    pairs: str | Path, images: str | Path, convert: Convert
) -> tuple[ImageCollection, ...]:
    """Read all collections of a folder, or one file, in the order of their names.

    Args:
        pairs: A folder of files, ours (.h5) or PixLoc's (.pkl), or one such file. Where both
            exist under one name, ours is read.
        images: Folder that the names of the images are relative to.
        convert: Makes a collection of the entries, the name and the image folder of a pickle.

    Raises:
        MapError: If there are none, or one cannot be read; the message names it.
    """
    return tuple(_open_file(path, Path(images), convert) for path in _files(Path(pairs)))


def _files(pairs: Path) -> Sequence[Path]:
    if pairs.is_file():
        return [pairs]
    if not pairs.is_dir():
        raise MapError(f"{pairs}: no such folder, expected the files of pixloc preprocess")
    by_stem: dict[str, Path] = {}
    for suffix in (".pkl", SUFFIX):
        by_stem.update({path.stem: path for path in pairs.glob(f"*{suffix}")})
    if not by_stem:
        raise MapError(
            f"{pairs}: no files *{SUFFIX} or *.pkl, expected those of pixloc preprocess"
        )
    return [by_stem[stem] for stem in sorted(by_stem)]


def _open_file(path: Path, images: Path, convert: Convert) -> ImageCollection:
    if path.suffix != ".pkl":
        return read_collection(path, images)
    entries = read_pickle(path)
    try:
        return convert(entries, path.stem, images)
    except KeyError as error:
        raise MapError(f"{path}: entry {error} is missing") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise MapError(f"{path}: entries do not fit together ({reason})") from error


def poses_of(entry: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotations (m, 3, 3) and translations (m, 3) of a list of pairs (R, t)."""
    rotations = [np.asarray(rotation, dtype=np.float64) for rotation, _ in entry]
    shifts = [np.asarray(shift, dtype=np.float64) for _, shift in entry]
    return np.reshape(rotations, (-1, 3, 3)), np.reshape(shifts, (-1, 3))


def indices_of(entry: Sequence[Any]) -> list[NDArray[np.int64]]:
    """Lists of indices as arrays."""
    return [np.asarray(indices, dtype=np.int64) for indices in entry]


def texts_of(entry: Sequence[Any]) -> tuple[str, ...]:
    """Texts; anything else is refused."""
    if not all(isinstance(text, str) for text in entry):
        raise TypeError("image names that are no texts")
    return tuple(entry)
