"""RetrievalIndex: an image in, the map images most like it out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pixloc_core.config import check, setting
from pixloc_core.errors import MapError
from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera, Pose
from pixloc_core.localizer.prior import Prior
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.descriptor import (
    DescriptorConfig,
    GlobalDescriptor,
    learn_descriptor,
)
from pixloc_core.retrieval.diversity import choose_distinct
from pixloc_core.retrieval.faiss_library import require_faiss
from pixloc_core.retrieval.hloc_descriptor import HlocDescriptor, read_hloc_vectors
from pixloc_core.retrieval.index_file import IndexContent, index_path, read_index, write_index
from pixloc_core.retrieval.local_features import Array
from pixloc_core.retrieval.map_images import MapImages
from pixloc_core.retrieval.vlad import Progress

# Candidates looked at for each that is wanted, where near-duplicates are left out.
_SURPLUS = 16


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Which candidates are given."""

    max_results: int = setting(
        8, doc="Candidates given where the question does not say how many.", ge=1, le=1000
    )
    min_motion: float = setting(
        0.05,
        doc="Map images between whose poses the points move by less than this share of the "
        "longest side of the image are one candidate, the best ranked of them. 0: all are given.",
        ge=0.0,
        le=1.0,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Candidate:
    """One map image that may show the same place.

    Attributes:
        name: Its name in the map.
        cam_from_map: Its pose in the coordinates of the model, float64, batch shape ().
        score: Cosine of both descriptors, at most 1.
    """

    name: str
    cam_from_map: Pose
    score: float


class RetrievalIndex:
    """The images of one map by their global descriptors; holds no state between queries."""

    def __init__(
        self, feature_map: FeatureMap, content: IndexContent, config: SearchConfig | None = None
    ) -> None:
        """Put vectors into an index.

        Raises:
            ConfigError: If FAISS is not installed.
            MapError: If there is not one vector for each image.
        """
        vectors = np.ascontiguousarray(content.vectors, np.float32)
        if vectors.ndim != 2 or len(vectors) != feature_map.sparse.num_images:
            raise MapError(
                f"global descriptors of shape {vectors.shape}, expected one row for each of the "
                f"{feature_map.sparse.num_images} images of {feature_map.path}"
            )
        self._map = feature_map
        self._content = content
        self._config = config or SearchConfig()
        self._faiss = require_faiss().IndexFlatIP(vectors.shape[1])
        self._faiss.add(vectors)

    @classmethod
    def open(
        cls,
        feature_map: FeatureMap,
        path: str | Path | None = None,
        config: SearchConfig | None = None,
        *,
        device: str = "cpu",
    ) -> "RetrievalIndex":
        """Open the index file of a map.

        Args:
            feature_map: The map.
            path: The index; by default the one beside the map.
            config: Which candidates are given.
            device: Torch device of the descriptor.

        Raises:
            MapError: If the file cannot be used, or belongs to another map.
            ConfigError: If FAISS or the device is missing.
            CheckpointError: If the weights of the descriptor cannot be used.
        """
        place = index_path(feature_map.path) if path is None else path
        return cls(feature_map, read_index(place, feature_map.sparse, device), config)

    @classmethod
    def build(
        cls,
        feature_map: FeatureMap,
        images_dir: str | Path,
        descriptor: DescriptorConfig | None = None,
        config: SearchConfig | None = None,
        progress: Progress | None = None,
    ) -> "RetrievalIndex":
        """Learn a descriptor on the images of a map, and describe them.

        Args:
            feature_map: The map.
            images_dir: Folder of its images.
            descriptor: Which descriptor.
            config: Which candidates are given.
            progress: Called with the number of images described and their total; those looked at
                for learning come before, with a total of their own.

        Raises:
            MapError, ImageError: If an image is missing or cannot be used.
            ConfigError: If FAISS, hloc or the device is missing.
            CheckpointError: If the weights of the descriptor cannot be used.
        """
        require_faiss()
        images = MapImages(feature_map.sparse, Path(images_dir))
        learned = learn_descriptor(descriptor or DescriptorConfig(), images, progress)
        vectors = []
        for index in range(len(images)):
            vectors.append(images.apply(index, learned.describe))
            if progress is not None:
                progress(index + 1, len(images))
        return cls(feature_map, IndexContent(learned, np.stack(vectors)), config)

    @classmethod
    def from_hloc(
        cls,
        feature_map: FeatureMap,
        descriptors: str | Path,
        descriptor: DescriptorConfig,
        config: SearchConfig | None = None,
    ) -> "RetrievalIndex":
        """Index of a file of hloc's global descriptors; queries need hloc, this does not.

        Args:
            feature_map: The map.
            descriptors: HDF5 file of `hloc.extract_features`.
            descriptor: Names the model in `hloc`.
            config: Which candidates are given.

        Raises:
            MapError: If the file cannot be used or lacks an image of the map.
            ConfigError: If FAISS is not installed.
        """
        vectors = read_hloc_vectors(descriptors, feature_map.sparse.image_names)
        network = HlocDescriptor(descriptor.hloc, vectors.shape[1], descriptor.device)
        return cls(feature_map, IndexContent(network, vectors), config)

    def save(self, path: str | Path | None = None) -> Path:
        """Write the index file (by default beside the map), and say where.

        Raises:
            MapError: If the folder cannot be written.
        """
        place = index_path(self._map.path) if path is None else Path(path)
        write_index(place, self._map.sparse, self._content)
        return place

    @property
    def descriptor(self) -> GlobalDescriptor:
        """What describes the images."""
        return self._content.descriptor

    @property
    def feature_map(self) -> FeatureMap:
        """The map whose images these are."""
        return self._map

    def __len__(self) -> int:
        return len(self._content.vectors)

    def query(
        self, image: Image, camera: Camera | None = None, k: int | None = None
    ) -> tuple[Candidate, ...]:
        """The map images most like an image, best first.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey, uint8.
            camera: Its camera, if it is known.
            k: Number wanted at most; by default that of the config.

        Raises:
            ImageError: If the image cannot be used.
            ConfigError: If the descriptor needs a package that is missing.
        """
        return self.search(self.descriptor.describe(image, camera), k)

    def prior(self, image: Image, camera: Camera | None = None) -> Prior:
        """The candidates as a prior of the localizer; raises as `query`."""
        return Prior.from_references([found.name for found in self.query(image, camera)])

    def search(self, vector: Array, k: int | None = None) -> tuple[Candidate, ...]:
        """The map images whose vectors are most like one (dim), best first.

        Raises:
            MapError: If the vector has another length.
        """
        if vector.shape != (self._faiss.d,):
            raise MapError(
                f"descriptor of shape {vector.shape}, expected ({self._faiss.d},) as in the index"
            )
        count = self._config.max_results if k is None else k
        # More than that: how many are left out as near-duplicates is known only afterwards.
        surplus = _SURPLUS if self._config.min_motion > 0 else 1
        wanted = min(count * surplus, len(self))
        scores, ranked = self._faiss.search(vector[None].astype(np.float32), wanted)
        sparse = self._map.sparse
        by_image = dict(zip(ranked[0].tolist(), scores[0].tolist(), strict=True))
        chosen = choose_distinct(sparse, list(by_image), count, self._config.min_motion)
        poses = sparse.to_model(sparse.cam_from_map[torch.tensor(chosen, dtype=torch.int64)])
        return tuple(
            Candidate(sparse.image_names[image], poses[row], min(by_image[image], 1.0))
            for row, image in enumerate(chosen)
        )
