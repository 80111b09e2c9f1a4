"""Training pairs: two views of one place whose relative pose and common points are known.

Every source of pairs is endless and addressed by an index: pair `i` of a seed is always the same
one, whatever the batch, the process or the run that asks for it. Exact resumption, runs that can
be repeated and equal results on one or several processes all follow from that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import torch

from pixloc_core.errors import ShapeError
from pixloc_core.geometry import Camera, Pose
from pixloc_core.geometry.tensor_backed import TensorBacked
from pixloc_core.shapes import Bool, Float, Tensor

B = TypeVar("B", bound=TensorBacked)
Split = Literal["train", "validation"]


@dataclass(frozen=True)
class View:
    """Images and the cameras that took them.

    Attributes:
        image: RGB in [0, 1], float32.
        camera: Intrinsics in pixels of `image`, float64; the size is that of the image.
    """

    image: Float[Tensor, "b 3 h w"]
    camera: Camera

    def to(self, device: torch.device | str) -> "View":
        """The same on another device."""
        return View(self.image.to(device), self.camera.to(device))


@dataclass(frozen=True)
class PairBatch:
    """Pairs of a reference and a query view, all views of one size.

    Attributes:
        reference: Views that stand for the map.
        query: Views to align.
        points_ref: Scene points in the frame of the reference camera, float64; every point that
            counts projects into the reference image and is not hidden there.
        is_point: Points that count; the others are padding, finite and in front of the camera.
        is_seen: Points known to be visible in the query too: inside the image and not hidden.
            Where nothing is known of a point it is not set.
        query_from_ref: True relative poses, float64.
        names: One line per pair that says where it comes from, for messages and pictures.
    """

    reference: View
    query: View
    points_ref: Float[Tensor, "b n 3"]
    is_point: Bool[Tensor, "b n"]
    is_seen: Bool[Tensor, "b n"]
    query_from_ref: Pose
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        size = len(self.names)
        found = {
            "reference": len(self.reference.image),
            "query": len(self.query.image),
            "points_ref": len(self.points_ref),
            "query_from_ref": len(self.query_from_ref),
        }
        wrong = [f"{name} has {count}" for name, count in found.items() if count != size]
        if wrong:
            raise ShapeError(f"batch of {size} pairs: {', '.join(wrong)}, expected {size} each")
        masks = {tuple(self.is_point.shape), tuple(self.is_seen.shape)}
        if masks != {tuple(self.points_ref.shape[:-1])}:
            raise ShapeError(
                f"batch of pairs: masks have shapes {sorted(masks)}, "
                f"expected {tuple(self.points_ref.shape[:-1])} as the points"
            )

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> "PairBatch":
        """The same on another device."""
        return PairBatch(
            self.reference.to(device),
            self.query.to(device),
            self.points_ref.to(device),
            self.is_point.to(device),
            self.is_seen.to(device),
            self.query_from_ref.to(device),
            self.names,
        )


class PairSource(Protocol):
    """Makes training pairs."""

    @property
    def description(self) -> str:
        """What the pairs come from, in words: it is written into the weights."""

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """Make the pairs of these indices.

        Raises:
            PixlocError: If they cannot be made; the message names the file.
        """


@runtime_checkable
class StagedSource(Protocol):
    """A source whose work divides into one part for many CPU cores and one for the device."""

    def begin(self, indices: Sequence[int]) -> Any:
        """The first part, in a process of its own; the result is sent to the training process."""

    def finish(self, begun: Any) -> PairBatch:
        """The second part, in the training process, on the device of the source."""


def join_pairs(parts: Sequence[PairBatch]) -> PairBatch:
    """Batches of the same sizes of image and numbers of points as one."""
    return PairBatch(
        _join_views([part.reference for part in parts]),
        _join_views([part.query for part in parts]),
        torch.cat([part.points_ref for part in parts]),
        torch.cat([part.is_point for part in parts]),
        torch.cat([part.is_seen for part in parts]),
        _cat([part.query_from_ref for part in parts]),
        tuple(name for part in parts for name in part.names),
    )


def _join_views(views: Sequence[View]) -> View:
    cameras = _cat([view.camera for view in views])
    return View(torch.cat([view.image for view in views]), cameras)


def _cat(items: Sequence[B]) -> B:
    """`torch.cat` takes our own batches too, of which its type knows nothing."""
    return cast(B, torch.cat(cast(Any, items)))


def generator_for(seed: int, index: int, purpose: str) -> torch.Generator:
    """Random numbers (on the CPU) that depend on these three and on nothing else.

    Args:
        seed: Seed of the run.
        index: Index of the pair.
        purpose: What the numbers are for, so that two uses of one pair are independent.
    """
    digest = hashlib.sha256(f"{seed} {index} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
