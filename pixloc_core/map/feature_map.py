"""FeatureMap: a sparse map with the reference features of all its observations, on disk."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.map.feature_map_writer import FeatureMapWriter, create_feature_map
from pixloc_core.map.map_file import FORMAT, VERSION, level_path, read_sparse
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.shapes import Float, Int, Tensor


class FeatureMap:
    """A map that images can be aligned to.

    The sparse part is in memory. Descriptors and confidences stay in the file and are mapped into
    memory: only the pages asked for are read. The map goes on working if the file is replaced.
    """

    def __init__(
        self,
        path: Path,
        sparse: SparseMap,
        extractor: tuple[str, dict[str, Any]],
        levels: Sequence[tuple[NDArray[np.float16], NDArray[np.float16]]],
        global_descriptors: NDArray[np.float16] | None,
    ) -> None:
        self.path = path
        self.sparse = sparse
        self.extractor_fingerprint, self.extractor_config = extractor
        self._levels = tuple(levels)
        self._global = global_descriptors

    @property
    def content_id(self) -> str:
        """Short hash of the model and of the features: equal for maps whose poses may be mixed.

        Sixteen hexadecimal digits, of what the file says of its model and its extractor; a map
        built again from the same has the same.
        """
        content = f"{self.sparse.fingerprint}\n{self.extractor_fingerprint}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def num_levels(self) -> int:
        """Number of levels; 0 is the finest."""
        return len(self._levels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Length of a descriptor at each level, fine to coarse."""
        return tuple(descriptors.shape[1] for descriptors, _ in self._levels)

    def descriptors(self, level: int, obs_idx: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Descriptors of observations as they were sampled, float32 on the CPU."""
        return _rows(self._levels[level][0], obs_idx)

    def confidences(self, level: int, obs_idx: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Confidences of observations in [0, 1], float32 on the CPU; 0: cannot be used."""
        return _rows(self._levels[level][1], obs_idx)

    @property
    def global_descriptors(self) -> Float[Tensor, "m g"] | None:
        """One vector per image for retrieval, float32, or None if the map has none."""
        if self._global is None:
            return None
        return torch.from_numpy(self._global.astype(np.float32))

    @staticmethod
    def create(
        path: str | Path,
        sparse: SparseMap,
        extractor_fingerprint: str,
        extractor_config: Mapping[str, Any],
        channels: Sequence[int],
    ) -> AbstractContextManager[FeatureMapWriter]:
        """Write a new map; see `create_feature_map`."""
        return create_feature_map(path, sparse, extractor_fingerprint, extractor_config, channels)

    @classmethod
    def open(cls, path: str | Path, expect_fingerprint: str | None = None) -> "FeatureMap":
        """Open a map file.

        Args:
            path: The file.
            expect_fingerprint: Fingerprint of the extractor that queries will be made with.

        Raises:
            MapError: In one line: no such file, not HDF5, truncated, not a feature map, of another
                version, never completed, or made with other features than expected.
        """
        path = Path(path)
        with _open_hdf5(path) as file:
            _check_header(path, file, expect_fingerprint)
            try:
                return cls._read(path, file)
            except MapError as error:
                raise MapError(f"{path}: {error}") from error
            except (KeyError, ValueError, TypeError, OSError) as error:
                reason = " ".join(str(error).split())
                raise MapError(f"{path}: damaged feature map ({reason})") from error

    @classmethod
    def _read(cls, path: Path, file: h5py.File) -> "FeatureMap":
        sparse = read_sparse(file)
        num, size = sparse.num_observations, path.stat().st_size
        levels = []
        for level in range(len(file["levels"])):
            descriptors = _mapped(path, file[level_path(level, "descriptors")], size)
            confidence = _mapped(path, file[level_path(level, "confidence")], size)
            if len(descriptors) != num or confidence.shape != (num,):
                raise MapError(f"level {level} has not one descriptor for each observation")
            levels.append((descriptors, confidence))
        vectors = file.get("images/global_descriptor")
        extractor = (
            str(file.attrs["extractor_fingerprint"]),
            json.loads(file.attrs["extractor_config"]),
        )
        return cls(path, sparse, extractor, levels, None if vectors is None else vectors[()])


def _rows(array: NDArray[np.float16], index: Int[Tensor, " n"]) -> Tensor:
    return torch.from_numpy(array.take(index.cpu().numpy(), axis=0)).float()


def _open_hdf5(path: Path) -> h5py.File:
    if path.is_dir():
        what = "the folder of a bag" if (path / "metadata.yaml").is_file() else "a folder"
        raise MapError(f"{path}: {what}, expected a feature map file (pixloc map build)")
    if not path.is_file():
        raise MapError(f"{path}: no such feature map")
    if not h5py.is_hdf5(path):
        raise MapError(f"{path}: not a feature map (not an HDF5 file)")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        what = "truncated" if "truncated" in str(error) else "damaged or unreadable"
        raise MapError(f"{path}: {what} feature map, build it again") from error


def _check_header(path: Path, file: h5py.File, expect_fingerprint: str | None) -> None:
    if file.attrs.get("format") != FORMAT:
        raise MapError(f"{path}: an HDF5 file, but not a feature map")
    version = int(file.attrs.get("version", 0))
    if version != VERSION:
        raise MapError(
            f"{path}: feature map of version {version}, this program reads {VERSION}; "
            "build it again"
        )
    if not file.attrs.get("complete", False):
        raise MapError(f"{path}: incomplete feature map (its making was stopped), build it again")
    found = str(file.attrs.get("extractor_fingerprint", ""))
    if expect_fingerprint is not None and found != expect_fingerprint:
        raise MapError(
            f"{path}: made with other weights or feature settings (fingerprint {found[:12]}, "
            f"expected {expect_fingerprint[:12]}); build it again"
        )


def _mapped(path: Path, dataset: h5py.Dataset, file_size: int) -> NDArray[np.float16]:
    """A contiguous dataset as a memory map."""
    offset = dataset.id.get_offset()
    if offset is None or dataset.dtype != np.float16:
        raise MapError(f"{dataset.name} is not a contiguous float16 dataset")
    if offset + dataset.size * 2 > file_size:
        raise MapError(f"{dataset.name} reaches beyond the end of the file: it is truncated")
    return np.memmap(path, np.float16, "r", offset, dataset.shape)
