"""MixedSource: pairs of several sources in fixed proportions."""

from collections.abc import Sequence

import torch

from pixloc_core.errors import ConfigError
from pixloc_core.training.pairs import PairBatch, PairSource, View, generator_for, join_pairs


class MixedSource:
    """Draws the source of each pair by its index; all sources must make views of one size."""

    def __init__(
        self, sources: Sequence[PairSource], weights: Sequence[float], *, seed: int
    ) -> None:
        """Mix sources.

        Args:
            sources: Where the pairs come from.
            weights: How often each is taken, in proportion.
            seed: Seed of the run.

        Raises:
            ConfigError: Unless there is one weight per source, none negative and one above 0.
        """
        if len(weights) != len(sources) or not all(w >= 0 for w in weights) or not sum(weights):
            raise ConfigError(
                f"weights of {len(sources)} sources are {tuple(weights)}, expected as many "
                "numbers, none negative and one above 0"
            )
        self._sources = tuple(sources)
        self._weights = torch.tensor(weights, dtype=torch.float64)
        self._seed = seed

    @property
    def description(self) -> str:
        """What the pairs come from, in words."""
        shares = (self._weights / self._weights.sum()).tolist()
        parts = zip(shares, self._sources, strict=True)
        return "; ".join(f"{share:.0%} {source.description}" for share, source in parts if share)

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """Make the pairs of these indices.

        Raises:
            PixlocError: If a source cannot make one.
        """
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(self._choose(index), []).append(place)
        parts = [
            self._sources[source].batch([indices[place] for place in chosen])
            for source, chosen in places.items()
        ]
        joined = torch.tensor([place for chosen in places.values() for place in chosen])
        return _reordered(join_pairs(parts), joined.argsort())

    def _choose(self, index: int) -> int:
        generator = generator_for(self._seed, index, "source")
        return int(torch.multinomial(self._weights, 1, generator=generator))


def _reordered(batch: PairBatch, order: torch.Tensor) -> PairBatch:
    def view(of: View) -> View:
        return View(of.image[order], of.camera[order])

    return PairBatch(
        view(batch.reference),
        view(batch.query),
        batch.points_ref[order],
        batch.is_point[order],
        batch.is_seen[order],
        batch.query_from_ref[order],
        tuple(batch.names[place] for place in order.tolist()),
    )
