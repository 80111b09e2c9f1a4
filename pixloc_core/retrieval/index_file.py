"""The index file (HDF5) beside a feature map; described in docs/retrieval.md."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.map.whole_file import new_hdf5
from pixloc_core.retrieval.descriptor import GlobalDescriptor, restore_descriptor
from pixloc_core.retrieval.local_features import Array

FORMAT = "pixloc_retrieval_index"
# To be raised with every change that an older or newer program would misread.
VERSION = 1
_HOW = "pixloc map retrieval"


@dataclass(frozen=True, eq=False)
class IndexContent:
    """What is in an index file: a descriptor, and its vector of each image of the map.

    Attributes:
        descriptor: Describes queries.
        vectors: One row per image in the order of the map (m, dim), unit length.
    """

    descriptor: GlobalDescriptor
    vectors: Array


def index_path(map_path: str | Path) -> Path:
    """Where the index of a feature map lies unless another place is given: beside it."""
    return Path(map_path).with_suffix(".retrieval.h5")


def write_index(path: str | Path, sparse: SparseMap, content: IndexContent) -> None:
    """Write an index file; it appears under its name when all of it is on the disk.

    Raises:
        MapError: If the folder cannot be written.
    """
    descriptor = content.descriptor
    with new_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["sfm_fingerprint"] = sparse.fingerprint
        file.attrs["descriptor_kind"] = descriptor.kind
        file.attrs["descriptor_config"] = json.dumps(descriptor.config_dict, sort_keys=True)
        file.attrs["descriptor_fingerprint"] = descriptor.fingerprint
        names = np.array(sparse.image_names, dtype=object)
        file.create_dataset("images/name", data=names, dtype=h5py.string_dtype("utf-8"))
        # Half precision costs less than 1e-3 of a cosine, and half of the file.
        file.create_dataset("images/vector", data=content.vectors.astype(np.float16))
        learned = file.create_group("learned")
        for name, array in descriptor.arrays().items():
            learned.create_dataset(name, data=array)


def read_index(path: str | Path, sparse: SparseMap, device: str = "cpu") -> IndexContent:
    """Read the index of a map.

    Args:
        path: The file.
        sparse: The map that it must belong to.
        device: Torch device of the descriptor.

    Raises:
        MapError: In one line: no such file, no index, of another version, damaged, of another map,
            or made with other weights.
        ConfigError, CheckpointError: If its descriptor cannot be made.
    """
    path = Path(path)
    if not path.is_file():
        raise MapError(f"{path}: no such retrieval index; make it with `{_HOW}`")
    if not h5py.is_hdf5(path):
        raise MapError(f"{path}: not a retrieval index (not an HDF5 file)")
    try:
        with h5py.File(path, "r") as file:
            _check_header(path, file, sparse)
            return _read_content(path, file, sparse, device)
    except (KeyError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise MapError(f"{path}: damaged retrieval index ({reason})") from error


def _check_header(path: Path, file: h5py.File, sparse: SparseMap) -> None:
    if file.attrs.get("format") != FORMAT:
        raise MapError(f"{path}: an HDF5 file, but not a retrieval index")
    version = int(file.attrs.get("version", 0))
    if version != VERSION:
        raise MapError(
            f"{path}: retrieval index of version {version}, this program reads {VERSION}; make it "
            f"again with `{_HOW}`"
        )
    found = str(file.attrs["sfm_fingerprint"])
    if found != sparse.fingerprint:
        raise MapError(
            f"{path}: index of another map (model {found[:12]}, expected "
            f"{sparse.fingerprint[:12]}); make it again with `{_HOW}`"
        )


def _read_content(path: Path, file: h5py.File, sparse: SparseMap, device: str) -> IndexContent:
    vectors = np.asarray(file["images/vector"][()], np.float32)
    names = tuple(file["images/name"].asstr()[()].tolist())
    if names != sparse.image_names or vectors.ndim != 2 or len(vectors) != len(names):
        raise MapError(f"{path}: damaged retrieval index (not one vector for each map image)")
    arrays: dict[str, NDArray[Any]] = {}
    file["learned"].visititems(
        lambda name, item: arrays.update({name: item[()]} if hasattr(item, "shape") else {})
    )
    try:
        descriptor = restore_descriptor(
            str(file.attrs["descriptor_kind"]),
            json.loads(file.attrs["descriptor_config"]),
            arrays,
            dim=vectors.shape[1],
            device=device,
        )
    except MapError as error:
        raise MapError(f"{path}: damaged retrieval index ({error})") from error
    if descriptor.fingerprint != str(file.attrs["descriptor_fingerprint"]):
        raise MapError(
            f"{path}: made with other weights or by another revision of "
            f"{descriptor.kind!r}; make it again with `{_HOW}`"
        )
    if descriptor.dim != vectors.shape[1]:
        raise MapError(
            f"{path}: damaged retrieval index (vectors of {vectors.shape[1]}, descriptor of "
            f"{descriptor.dim})"
        )
    return IndexContent(descriptor, vectors)
