"""The built-in global descriptor: VLAD over features whose vocabulary is learned on the map."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixloc_core.config import check, setting, to_dict
from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.network_extractor import NetworkExtractorConfig
from pixloc_core.features.preprocessing import Image, prepare
from pixloc_core.features.shipped_weights import DEFAULT
from pixloc_core.geometry import Camera
from pixloc_core.retrieval.local_features import (
    Array,
    LocalDescriptors,
    LocalFeatures,
    NetworkCells,
    RootSift,
)
from pixloc_core.retrieval.map_images import MapImages
from pixloc_core.retrieval.vocabulary import Vocabulary, learn_vocabulary, unit

Progress = Callable[[int, int], None]
# Grows with every change of what is computed, so that older index files are refused.
_REVISION = 1
# A vocabulary is learned from this many descriptors, of this many images spread over the map.
_SAMPLES, _SAMPLED_IMAGES = 100_000, 200
# Decorrelated entries kept, and whether they are whitened; measured in docs/retrieval.md.
_DIMS = {"network": (32, True), "sift": (64, False)}


@dataclass(frozen=True, kw_only=True)
class VladConfig:
    """What the built-in descriptor is made of."""

    features: tuple[str, ...] = setting(
        ("network", "sift"),
        doc="Local features, joined: cells of the network, RootSIFT at keypoints, or both.",
        choices=tuple(_DIMS),
    )
    weights: str = setting(
        "", doc="Weights of that network: a file, or the name of shipped ones; empty: light."
    )
    max_size: int = setting(
        512, doc="Images are shrunk to this longest side.", unit="px", ge=64, le=4096
    )
    network_words: int = setting(
        32,
        doc="Words of the network's vocabulary; its share has 32 entries a word.",
        ge=1,
        le=4096,
    )
    sift_words: int = setting(
        64, doc="Words of the vocabulary of RootSIFT; its share has 64 entries a word.", ge=1,
        le=4096,
    )  # fmt: skip
    keypoints: int = setting(1000, doc="Strongest keypoints of an image.", ge=10, le=100_000)

    def __post_init__(self) -> None:
        check(self)
        if not self.features or len(set(self.features)) != len(self.features):
            raise ConfigError(
                f"VladConfig.features is {tuple(self.features)!r}, expected network, sift or both"
            )

    def words(self, feature: str) -> int:
        """Size of a vocabulary."""
        return self.network_words if feature == "network" else self.sift_words


class _Sources:
    """The local features of an image, by name."""

    def __init__(self, config: VladConfig, device: str) -> None:
        self._max_size = config.max_size
        makers: dict[str, Callable[[], LocalFeatures]] = {
            "network": lambda: NetworkCells(_create_network(config, device)),
            "sift": lambda: RootSift(config.keypoints),
        }
        self._sources = {name: makers[name]() for name in config.features}

    @property
    def fingerprint(self) -> str:
        """Of all of them."""
        return "; ".join(source.fingerprint for source in self._sources.values())

    def extract(self, image: Image, camera: Camera | None) -> dict[str, LocalDescriptors]:
        """Local descriptors; without a camera any will do, the descriptors do not depend on it."""
        if camera is None:
            camera = _plain_camera(image)
        prepared, camera = prepare(image, camera, self._max_size)
        small = (prepared * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        return {name: source.extract(small, camera) for name, source in self._sources.items()}


class VladDescriptor:
    """VLAD vectors of several kinds of local features, joined with equal weights.

    Args:
        config: Settings.
        vocabularies: One for each of `config.features`.
        device: Torch device of the network.

    Raises:
        MapError: If a vocabulary is missing.
        CheckpointError: If the weights of the network cannot be used.
    """

    def __init__(
        self, config: VladConfig, vocabularies: Mapping[str, Vocabulary], device: str = "cpu"
    ) -> None:
        missing = [name for name in config.features if name not in vocabularies]
        if missing:
            raise MapError(f"global descriptor without a vocabulary for {missing[0]}")
        self._config = replace(config, weights=config.weights or DEFAULT)
        self._vocabularies = {name: vocabularies[name] for name in config.features}
        self._sources = _Sources(self._config, device)

    @classmethod
    def learn(
        cls,
        config: VladConfig,
        images: MapImages,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> "VladDescriptor":
        """Learn the vocabularies on the images of a map.

        Raises:
            ImageError: If an image cannot be used.
            MapError: If the images show nothing.
            ConfigError: If FAISS is not installed.
        """
        config = replace(config, weights=config.weights or DEFAULT)
        sources = _Sources(config, device)
        count = min(len(images), _SAMPLED_IMAGES)
        chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
        samples: dict[str, list[Array]] = {name: [] for name in config.features}
        generator = np.random.default_rng(0)
        for done, index in enumerate(chosen.tolist(), start=1):
            found = images.apply(index, sources.extract)
            for name, local in found.items():
                samples[name].append(_sample(local.vectors, _SAMPLES // count, generator))
            if progress is not None:
                progress(done, count)
        vocabularies = {}
        for name, parts in samples.items():
            dim, whiten = _DIMS[name]
            vocabularies[name] = learn_vocabulary(
                np.concatenate(parts), config.words(name), dim, whiten=whiten
            )
        return cls(config, vocabularies, device)

    @property
    def kind(self) -> str:
        """Its name among the descriptors."""
        return "vlad"

    @property
    def dim(self) -> int:
        """Length of a descriptor."""
        return sum(vocabulary.dim for vocabulary in self._vocabularies.values())

    @property
    def fingerprint(self) -> str:
        """Hash of features, settings and vocabularies."""
        digest = hashlib.sha256(f"vlad {_REVISION} {self._sources.fingerprint}".encode())
        for name, array in sorted(self.arrays().items()):
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def config_dict(self) -> dict[str, Any]:
        """Its settings as plain JSON values."""
        return to_dict(self._config)

    def arrays(self) -> dict[str, Array]:
        """What was learned, by name, for a file."""
        return {
            f"{feature}/{name}": array
            for feature, vocabulary in self._vocabularies.items()
            for name, array in vocabulary.arrays().items()
        }

    @classmethod
    def restore(
        cls, config: VladConfig, arrays: Mapping[str, NDArray[Any]], device: str = "cpu"
    ) -> "VladDescriptor":
        """From settings and `arrays`.

        Raises:
            MapError: If an array is missing or does not fit.
            CheckpointError: If the weights of the network cannot be used.
        """
        vocabularies = {}
        for feature in config.features:
            prefix = f"{feature}/"
            own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            vocabularies[feature] = Vocabulary.from_arrays(own)
        return cls(config, vocabularies, device)

    def load(self) -> None:
        """Nothing is left to be loaded."""

    def describe(self, image: Image, camera: Camera | None = None) -> Array:
        """Vector (dim) of unit length.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey, uint8.
            camera: Its camera, if known; only its size counts.

        Raises:
            ImageError: If the image is empty, not 8 bit, too small, of another size than its
                camera, or shows nothing.
        """
        found = self._sources.extract(image, camera)
        parts = [
            vocabulary.summarize(found[feature])
            for feature, vocabulary in self._vocabularies.items()
        ]
        vector = unit(np.concatenate(parts))
        if not vector.any():
            raise ImageError(f"image of {image.shape[1]}x{image.shape[0]} px shows nothing")
        return vector


def _create_network(config: VladConfig, device: str) -> Any:
    network = NetworkExtractorConfig(weights=config.weights, max_size=config.max_size, octaves=1)
    return create_extractor(ExtractorConfig(kind="network", device=device, network=network))


def _plain_camera(image: Image) -> Camera:
    """Some camera of the size of an image."""
    if image.ndim < 2 or not image.size:
        raise ImageError(f"image of shape {image.shape}, expected (h, w, 3) RGB or (h, w) grey")
    height, width = image.shape[:2]
    params = [float(max(height, width)), width / 2, height / 2]
    return Camera.from_colmap(
        {"model": "SIMPLE_PINHOLE", "width": width, "height": height, "params": params}
    )


def _sample(vectors: Array, count: int, generator: np.random.Generator) -> Array:
    if len(vectors) <= count:
        return vectors
    return vectors[generator.choice(len(vectors), count, replace=False)]
