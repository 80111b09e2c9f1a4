"""A picture of training pairs, to be looked at."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.shapes import Tensor
from pixloc_core.training.pairs import PairBatch, View

Image = NDArray[np.uint8]
_GAP = 4
_LABEL = 16


def draw_contact_sheet(batch: PairBatch) -> Image:
    """One row for each pair: its reference and its query with the points at the true pose.

    Colours tell the depth in the reference, from red (near) to blue (far). Points that the query
    sees are filled, those that it is not known to see are hollow.

    Returns:
        RGB picture (b (h + 20), 2 w + 4, 3).
    """
    batch = batch.to("cpu")
    colours = _depth_colours(batch.points_ref[..., 2], batch.is_point)
    points_query = batch.query_from_ref * batch.points_ref
    left = _draw_points(batch.reference, batch.points_ref, batch.is_point, batch.is_point, colours)
    right = _draw_points(batch.query, points_query, batch.is_point, batch.is_seen, colours)
    rows = []
    for name, reference, query in zip(batch.names, left, right, strict=True):
        height, width = reference.shape[:2]
        row = np.full((height + _LABEL + _GAP, 2 * width + _GAP, 3), 255, np.uint8)
        row[_LABEL : _LABEL + height, :width] = reference
        row[_LABEL : _LABEL + height, width + _GAP :] = query
        place, face = (2, _LABEL - 4), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(row, name, place, face, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(row)
    return np.concatenate(rows)


def _draw_points(
    view: View, points_cam: Tensor, wanted: Tensor, filled: Tensor, colours: NDArray[np.uint8]
) -> list[Image]:
    points_px, valid = view.camera.world2image(points_cam)
    pictures = (view.image.movedim(1, -1) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    result = []
    for i, picture in enumerate(pictures):
        canvas = np.ascontiguousarray(picture)
        for j in (valid[i] & wanted[i]).nonzero()[:, 0].tolist():
            centre = tuple((8 * points_px[i, j]).round().int().tolist())
            radius, thickness = (16, -1) if filled[i, j] else (24, 1)
            cv2.circle(canvas, centre, radius, colours[i, j].tolist(), thickness, cv2.LINE_AA, 3)
        result.append(canvas)
    return result


def _depth_colours(depth: Tensor, is_point: Tensor) -> NDArray[np.uint8]:
    """Colours (b, n, 3) from red (near) to blue (far), each pair by its own range."""
    log_depth = depth.clamp(min=1e-6).log()
    near = torch.where(is_point, log_depth, torch.inf).amin(-1, keepdim=True)
    far = torch.where(is_point, log_depth, -torch.inf).amax(-1, keepdim=True)
    part = ((log_depth - near) / (far - near).clamp(min=1e-6)).nan_to_num().clamp(0, 1)
    levels = (255 * (1 - part)).round().to(torch.uint8).numpy()
    coloured = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), np.uint8)
    return np.ascontiguousarray(coloured[..., ::-1])
