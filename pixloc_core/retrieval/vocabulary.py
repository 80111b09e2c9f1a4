"""A vocabulary of local descriptors, and what an image says in it (VLAD)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.retrieval.faiss_library import require_faiss
from pixloc_core.retrieval.local_features import Array, LocalDescriptors

_ITERATIONS = 15
_SEED = 1
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words are the centres of clusters of decorrelated local descriptors.

    Attributes:
        mean: Mean of the descriptors (c).
        projection: To `d` decorrelated numbers (c, d): `(x - mean) @ projection`.
        centres: The words (k, d).
    """

    mean: Array
    projection: Array
    centres: Array

    @property
    def dim(self) -> int:
        """Length of a vector made with it."""
        return int(self.centres.size)

    def arrays(self) -> dict[str, Array]:
        """Its arrays by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Vocabulary":
        """The inverse of `arrays`.

        Raises:
            MapError: If one is missing, or their shapes do not fit each other.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise MapError(f"vocabulary without {missing[0]}")
        mean, projection, centres = (np.asarray(arrays[name], np.float32) for name in names)
        fits = centres.ndim == 2 and projection.shape == (len(mean), centres.shape[-1])
        if not fits or not all(np.isfinite(a).all() for a in (mean, projection, centres)):
            raise MapError(
                f"vocabulary of mean {mean.shape}, projection {projection.shape} and centres "
                f"{centres.shape}, expected (c), (c, d) and (k, d), all finite"
            )
        return cls(mean, projection, centres)

    def summarize(self, local: LocalDescriptors) -> Array:
        """What is left of the descriptors when their words are taken off, summed by word.

        Every residual has the length of its weight, so that outliers do not dominate; the sums are
        scaled to unit length word by word, so that repeated structure does not; the square root of
        the entries dampens the rest.

        Returns:
            Vector (k d) of unit length; zeros if there is no descriptor.
        """
        words, width = self.centres.shape
        if not len(local.vectors):
            return np.zeros(words * width, np.float32)
        x = (local.vectors - self.mean) @ self.projection
        # Distance without the |x|^2 that all words share.
        word = ((self.centres**2).sum(1) - 2 * x @ self.centres.T).argmin(1)
        residual = unit(x - self.centres[word]) * local.weights[:, None]
        membership = np.zeros((len(x), words), np.float32)
        membership[np.arange(len(x)), word] = 1
        summed = unit(membership.T @ residual).ravel()
        return unit(np.sign(summed) * np.sqrt(np.abs(summed)))


def learn_vocabulary(vectors: Array, words: int, dim: int, *, whiten: bool) -> Vocabulary:
    """Learn from a sample of local descriptors.

    Args:
        vectors: Descriptors (n, c) of many images.
        words: Number of words; fewer if there are not as many descriptors.
        dim: Number of decorrelated entries kept, at most c.
        whiten: Whether all of them get the same variance.

    Raises:
        ConfigError: If FAISS is not installed.
        MapError: If there is no descriptor.
    """
    if not len(vectors):
        raise MapError("the map images show nothing that a vocabulary could be learned from")
    mean = vectors.mean(0)
    centred = vectors - mean
    variance, axes = np.linalg.eigh(centred.T @ centred / len(vectors))
    order = variance.argsort()[::-1][:dim]
    projection = axes[:, order]
    if whiten:
        # A direction without variance would otherwise be blown up to pure noise.
        projection = projection / np.sqrt(np.maximum(variance[order], 1e-4 * variance.max()))
    projection = projection.astype(np.float32)
    count = min(words, len(vectors))
    kmeans = require_faiss().Kmeans(
        projection.shape[1],
        count,
        niter=_ITERATIONS,
        seed=_SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, -(-len(vectors) // count)),
    )
    kmeans.train(np.ascontiguousarray(centred @ projection, np.float32))
    return Vocabulary(mean, projection, np.asarray(kmeans.centroids, np.float32))


def unit(vectors: Array) -> Array:
    """Vectors of the last axis at unit length; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, _TINY), np.float32)
