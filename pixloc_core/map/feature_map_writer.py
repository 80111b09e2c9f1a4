"""Writing a feature map: all of it, or nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pixloc_core.errors import MapError
from pixloc_core.map.map_file import FORMAT, VERSION, level_path, write_sparse
from pixloc_core.map.sparse_map import SparseMap
from pixloc_core.map.whole_file import new_hdf5
from pixloc_core.shapes import Float, Tensor


class FeatureMapWriter:
    """Takes the reference features of a map image by image, in any order."""

    def __init__(self, file: h5py.File, sparse: SparseMap, channels: Sequence[int]) -> None:
        self._sparse = sparse
        self._file = file
        self._channels = tuple(channels)
        self._written = np.zeros(sparse.num_images, dtype=bool)
        num = sparse.num_observations
        self._descriptors = [
            _contiguous(file, level_path(level, "descriptors"), (num, width))
            for level, width in enumerate(self._channels)
        ]
        self._confidences = [
            _contiguous(file, level_path(level, "confidence"), (num,))
            for level in range(len(self._channels))
        ]

    def write_image(
        self,
        image: int,
        descriptors: Sequence[Tensor],
        confidences: Sequence[Tensor],
    ) -> None:
        """Store what was sampled at all observations of one image.

        Args:
            image: Index of the image in the sparse map.
            descriptors: Per level, fine to coarse, (n, c): one row per observation in the order
                of the sparse map (`sparse.observations_of(image)`).
            confidences: Per level, (n,) in [0, 1]; 0 marks an observation that cannot be used.

        Raises:
            MapError: If a number of levels, observations or channels does not fit.
        """
        rows = self._sparse.observations_of(image)
        count = rows.stop - rows.start
        expected = [(count, width) for width in self._channels]
        found = [tuple(level.shape) for level in descriptors]
        if found != expected or [tuple(c.shape) for c in confidences] != [(count,)] * len(
            expected
        ):
            raise MapError(
                f"features of {self._sparse.image_names[image]} have shapes {found}, "
                f"expected {expected} and as many confidences"
            )
        for dataset, values in zip(self._descriptors, descriptors, strict=True):
            dataset[rows] = values.detach().cpu().half().numpy()
        for dataset, values in zip(self._confidences, confidences, strict=True):
            dataset[rows] = values.detach().cpu().half().numpy()
        self._written[image] = True

    def write_global_descriptors(self, descriptors: Float[Tensor, "m g"]) -> None:
        """Store one vector per image for retrieval.

        Raises:
            MapError: If there is not one row for each image of the map.
        """
        if descriptors.ndim != 2 or len(descriptors) != self._sparse.num_images:
            raise MapError(
                f"global descriptors have shape {tuple(descriptors.shape)}, "
                f"expected one row for each of {self._sparse.num_images} images"
            )
        vectors = descriptors.detach().cpu().half().numpy()
        self._file.create_dataset("images/global_descriptor", data=vectors)

    def finish(self) -> None:
        """Mark the file as complete.

        Raises:
            MapError: If an image was left out.
        """
        if not self._written.all():
            first = self._sparse.image_names[int(np.argmin(self._written))]
            missing = int((~self._written).sum())
            raise MapError(f"features of {missing} images were never written (first: {first})")
        self._file.attrs["complete"] = True


@contextmanager
def create_feature_map(
    path: str | Path,
    sparse: SparseMap,
    extractor_fingerprint: str,
    extractor_config: Mapping[str, Any],
    channels: Sequence[int],
) -> Iterator[FeatureMapWriter]:
    """Write a feature map: the file appears under its name when all of it is on the disk.

    Args:
        path: The file; an existing one is replaced at the end.
        sparse: The map.
        extractor_fingerprint: Hash of weights and settings of the features.
        extractor_config: Plain JSON values from which the extractor can be made again.
        channels: Length of a descriptor at each level, fine to coarse.

    Raises:
        MapError: If the folder cannot be written, or an image was left out.
    """
    with new_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["complete"] = False
        file.attrs["extractor_fingerprint"] = extractor_fingerprint
        file.attrs["extractor_config"] = json.dumps(dict(extractor_config), sort_keys=True)
        write_sparse(file, sparse)
        writer = FeatureMapWriter(file, sparse, channels)
        yield writer
        writer.finish()


def _contiguous(file: h5py.File, path: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """Dataset in one piece, with a place in the file from the start: fit for memory mapping."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # The same input gives the same file.
    properties.set_obj_track_times(False)
    return file.create_dataset(path, shape, np.float16, dcpl=properties)
