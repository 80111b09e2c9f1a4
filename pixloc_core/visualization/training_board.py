"""A training run on TensorBoard: numbers, and pictures of what the features do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pixloc_core.errors import TrainingError
from pixloc_core.features.preprocessing import Image
from pixloc_core.shapes import Float, Tensor
from pixloc_core.training.pairs import PairBatch
from pixloc_core.training.trainer import Evaluation

# RGB: where points begin, where they end, and where they belong.
_START, _END, _TRUTH = (255, 60, 60), (60, 220, 60), (255, 255, 255)
_MOST_POINTS = 120


class TrainingBoard:
    """Writes TensorBoard files; an observer of a run.

    Args:
        folder: Folder of the run.
        pairs: Pairs that are drawn.
        step: Step that the run goes on from; what was written of later ones is not shown.

    Raises:
        TrainingError: If TensorBoard is not installed or the folder cannot be written.
    """

    def __init__(self, folder: Path, *, pairs: int = 4, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                f"TensorBoard cannot be imported ({error}); pip install 'pixloc_ros[train]'"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        self._pairs = pairs

    def on_step(self, step: int) -> None:
        """Single steps are not shown."""

    def on_numbers(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in numbers.items():
            if np.isfinite(value):
                self._guard("add_scalar", f"{kind}/{name}", value, step)
        self._guard("flush")

    def on_pictures(self, step: int, batch: PairBatch, evaluation: Evaluation) -> None:
        """Add the first pairs of a batch."""
        for index in range(min(len(batch), self._pairs)):
            picture = draw_pair(batch, evaluation, index)
            self._guard("add_image", f"pair {index}", picture, step, dataformats="HWC")
        self._guard("flush")

    def close(self) -> None:
        """Write what is left."""
        self._guard("close")

    def _guard(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Pictures are no reason to lose a run: what cannot be written is given up."""
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*args, **kwargs)
        except OSError:
            self._writer = None


def draw_pair(batch: PairBatch, evaluation: Evaluation, index: int) -> Image:
    """One pair: reference with its points, query with their ways, confidence of the query.

    Args:
        batch: The pairs.
        evaluation: What the model made of them.
        index: Which pair.
    """
    batch = batch.to("cpu")
    camera = batch.query.camera[index]
    points = batch.points_ref[index][batch.is_point[index]][:_MOST_POINTS]
    poses = (evaluation.start[index], evaluation.output.poses[-1][index])
    ways = [camera.world2image(pose.detach().cpu() * points)[0] for pose in poses]
    truth, visible = camera.world2image(batch.query_from_ref[index] * points)
    query = _to_picture(batch.query.image[index])
    for shown, begin, end, goal in zip(visible.tolist(), *ways, truth, strict=True):
        if shown:
            cv2.line(query, _pixel(begin), _pixel(end), _START, 1, cv2.LINE_AA)
            cv2.circle(query, _pixel(goal), 2, _TRUTH, -1, cv2.LINE_AA)
            cv2.circle(query, _pixel(end), 2, _END, 1, cv2.LINE_AA)
    reference = _to_picture(batch.reference.image[index])
    points_px, _ = batch.reference.camera[index].world2image(points)
    for point in points_px:
        cv2.circle(reference, _pixel(point), 2, _END, 1, cv2.LINE_AA)
    levels = [level.confidence[index] for level in evaluation.output.query]
    maps = [_to_heat(confidence, query.shape[:2]) for confidence in levels]
    return np.concatenate([reference, query, *maps], 1)


def _to_picture(image: Float[Tensor, "3 h w"]) -> Image:
    array = (image.clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(array)


def _to_heat(confidence: Float[Tensor, "h w"], shape: tuple[int, ...]) -> Image:
    grey = (confidence.detach().float().clamp(0, 1) * 255).byte().cpu().numpy()
    large = cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_NEAREST)
    heat = cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS)
    return np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), np.uint8)


def _pixel(point: Float[Tensor, "2"]) -> tuple[int, int]:
    # Points far outside would not fit OpenCV's integers.
    x, y = torch.nan_to_num(point).clamp(-9999, 9999).round().int().tolist()
    return x, y
