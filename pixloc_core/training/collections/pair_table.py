"""PairTable: the pairs of a collection with the overlap that is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.errors import MapError
from pixloc_core.training.collections.image_collection import ImageCollection
from pixloc_core.training.collections.sampling import PairSamplingConfig
from pixloc_core.training.pairs import Split


@dataclass(frozen=True, eq=False)
class PairTable:
    """Pairs sorted by query.

    Attributes:
        queries: The images that are queries of some pair.
        offsets: Where the references of each of them begin, and the total at the end.
        references: Images.
    """

    queries: NDArray[np.int64]
    offsets: NDArray[np.int64]
    references: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.references)

    def draw(self, generator: torch.Generator) -> tuple[int, int]:
        """Reference and query: each query is equally likely, then each of its references."""
        share = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        row = int(share[0] * len(self.queries))
        first, last = self.offsets[row], self.offsets[row + 1]
        place = int(first) + int(share[1] * int(last - first))
        return int(self.references[place]), int(self.queries[row])


def find_pairs(collection: ImageCollection, config: PairSamplingConfig, split: Split) -> PairTable:
    """All pairs of a split.

    With `validation_scenes` a collection is for one split alone. Else every `validation_every`-th
    of its queries, in the order of their names, is held out: pairs for validation have such a
    query, pairs for training show held-out images in neither role.

    Raises:
        MapError: If there is none; the message tells what was found.
    """
    common = collection.common_points().tocoo()
    reference, query, count = common.row, common.col, common.data
    other = reference != query
    reference, query, count = reference[other], query[other], count[other]
    shown = collection.obs_offsets.diff().numpy()
    overlap = count / np.maximum(shown[reference], 1)
    good = (count >= config.min_common) & (overlap >= config.min_overlap)
    good &= overlap <= config.max_overlap
    if config.max_baseline > 0:
        centers = collection.cam_from_world.center.numpy()
        distance = np.linalg.norm(centers[reference] - centers[query], axis=-1)
        good &= distance <= config.max_baseline
    is_held_out = held_out(collection, config.validation_every)
    if config.validation_scenes:
        wanted = np.ones_like(good)
    elif split == "validation":
        wanted = is_held_out[query]
    else:
        wanted = ~is_held_out[query] & ~is_held_out[reference]
    used = good & wanted
    if not used.any():
        raise MapError(_explain(collection, config, split, overlap, int(good.sum())))
    order = np.lexsort((reference[used], query[used]))
    queries, first = np.unique(query[used][order], return_index=True)
    offsets = np.append(first, int(used.sum()))
    return PairTable(
        queries.astype(np.int64), offsets.astype(np.int64), reference[used][order].astype(np.int64)
    )


def scenes_of(
    collections: Sequence[ImageCollection], config: PairSamplingConfig, split: Split
) -> tuple[ImageCollection, ...]:
    """The collections that a split takes pairs from.

    Raises:
        MapError: If `validation_scenes` names an unknown one or leaves none.
    """
    wanted = set(config.validation_scenes)
    unknown = wanted - {collection.name for collection in collections}
    if unknown:
        raise MapError(
            f"validation scene {min(unknown)!r} is not among the {len(collections)} collections "
            f"(first: {collections[0].name!r})"
        )
    if not wanted:
        return tuple(collections)
    chosen = tuple(c for c in collections if (c.name in wanted) == (split == "validation"))
    if not chosen:
        raise MapError(f"all {len(collections)} collections are validation scenes, none to train")
    return chosen


def held_out(collection: ImageCollection, every: int) -> NDArray[np.bool_]:
    """Images that are kept for validation."""
    queries = np.flatnonzero(collection.is_query.numpy())
    by_name = sorted(queries.tolist(), key=lambda image: collection.image_names[image])
    mask = np.zeros(collection.num_images, dtype=np.bool_)
    mask[by_name[every // 2 :: every]] = True
    return mask


def _explain(
    collection: ImageCollection,
    config: PairSamplingConfig,
    split: str,
    overlap: NDArray[np.float64],
    good: int,
) -> str:
    baseline = f", at most {config.max_baseline:g} apart" if config.max_baseline > 0 else ""
    found = f"largest overlap {overlap.max():.2f}" if len(overlap) else "no two share a point"
    kept = ""
    if not config.validation_scenes:
        count, queries = held_out(collection, config.validation_every), collection.is_query
        kept = (
            f"; validation_every={config.validation_every} keeps {int(count.sum())} of "
            f"{int(queries.sum())} queries for validation"
        )
    return (
        f"{collection.name}: no pairs for {split}, expected overlaps of {config.min_overlap:g} to "
        f"{config.max_overlap:g} with {config.min_common} common points{baseline}; found "
        f"{collection.num_images} images, {found}, {good} pairs in all splits{kept}"
    )
