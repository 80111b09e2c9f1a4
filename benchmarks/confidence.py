"""Does confidence mean something? Where each point would go by itself, by its confidence.

    python -m benchmarks.confidence [--sets fox ...] [--write] [--pictures FOLDER] [a.b=c ...]

At the true pose every map point is compared with the query in a window of 6 cells around its
projection: the place that looks most like the point lies some way off, its residual displacement.
That is what pulls at the pose, and what a good confidence foresees. Points are split into halves
by their confidence (that of the map times that of the query, as the optimizer weighs them), each
query by itself. `--pictures` writes, for each set, queries beside their confidence at each level.

On one core: 15 s for each set. `--write` replaces the rows of the sets run.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.image_set import ImageSet
from benchmarks.results_file import (
    Record,
    merge_records,
    read_records,
    write_records,
    write_section,
)
from benchmarks.set_benchmark import (
    REPOSITORY,
    RESULTS,
    add_set_arguments,
    features_name,
    find_chosen,
    list_commands,
    made_with,
    open_set,
    spread,
)
from pixloc_core.config import load
from pixloc_core.errors import PixlocError
from pixloc_core.evaluation.assembly import RunConfig
from pixloc_core.evaluation.report import markdown_table, number, percent
from pixloc_core.features.extractor import Extractor, SteerableExtractor, create_extractor
from pixloc_core.features.preprocessing import Image, load_image
from pixloc_core.features.pyramid import FeatureLevel, FeaturePyramid
from pixloc_core.features.reference import PointFeatures, Turn, gather_points
from pixloc_core.geometry import Camera, Pose, inside, sample
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.map.selection import select_points, select_references
from pixloc_core.map.view_similarity import image_rolls
from pixloc_core.shapes import Float, Tensor
from pixloc_core.visualization.overlay import (
    add_caption,
    as_rgb,
    draw_confidence,
    write_picture,
)

RECORDS = REPOSITORY / "benchmarks/confidence.json"
KEY = ("features", "set", "stride")
# Half a side of the window, and the steps of the first and the second look, in cells.
_REACH, _STEP, _FINE_STEP = 6.0, 0.5, 0.1
# Points compared at once; more only take more memory.
_CHUNK = 256
# Pictures of queries on the sheet of a set, and the height of each in pixels.
_PICTURES, _PICTURE_HEIGHT = 5, 240


@dataclass(frozen=True)
class Pulls:
    """Points of one query at one level.

    Attributes:
        displacement: Residual displacement, cells.
        confidence: Of the map times that of the query.
    """

    displacement: np.ndarray
    confidence: np.ndarray


def main() -> int:
    """Run; exit code 2 for unusable input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_set_arguments(parser, "confidence")
    parser.add_argument("--levels", type=int, default=3, help="the finest ones, so many")
    parser.add_argument("--limit", type=int, default=12, help="most queries of each set")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write sheets there")
    args = parser.parse_args()
    rows: list[Record] = []
    try:
        config = load(RunConfig, args.conf, args.settings)
        extractor = create_extractor(config.extractor)
        head = {
            "features": args.tag or features_name(config.extractor),
            "made_with": made_with("confidence", args, extractor),
        }
        for image_set in find_chosen(parser, args):
            rows += [head | row for row in _run_set(image_set, extractor, config, args)]
    except PixlocError as error:
        print(f"confidence: {error}", file=sys.stderr)
        return 2
    print(_table(rows))
    if args.write:
        _write(rows)
    return 0


def _run_set(
    image_set: ImageSet, extractor: Extractor, config: RunConfig, args: argparse.Namespace
) -> list[Record]:
    localizer = open_set(image_set, extractor, config, args.work)
    names = spread(sorted(image_set.truth), args.limit)
    shown = set(spread(names, _PICTURES)) if args.pictures else set()
    pulls: list[list[Pulls]] = [[] for _ in extractor.strides[: args.levels]]
    pictures = []
    for name in tqdm(names, desc=image_set.name, unit="query", disable=None):
        camera = image_set.cameras[name].double()
        image = load_image(image_set.images / name)
        with torch.inference_mode():
            pyramid = extractor.extract(image, camera)
            pose = localizer.sparse.to_local(image_set.truth[name].reshape(1))[0]
            points = _points_at(localizer, extractor, config, pose, camera)
            for level, found in enumerate(pulls):
                found.append(_pulls(pyramid, points, pose, level))
        if name in shown:
            pictures.append(_draw_query(image, pyramid, name))
    if pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        write_picture(str(args.pictures / f"{image_set.name}.png"), _stack(pictures))
    return [
        {"set": image_set.name} | summarize(found, stride)
        for found, stride in zip(pulls, extractor.strides, strict=False)
    ]


def _points_at(
    localizer: Localizer, extractor: Extractor, config: RunConfig, pose: Pose, camera: Camera
) -> PointFeatures:
    """The points that the localizer would use at this pose, relative to the map's origin."""
    sparse, selection = localizer.sparse, config.localizer.selection
    references = select_references(sparse, pose.reshape(1), camera, selection)
    chosen = select_points(sparse, references, selection, pose.reshape(1), camera)
    turn = None
    if isinstance(extractor, SteerableExtractor):
        turn = Turn(extractor, torch.from_numpy(image_rolls(sparse, pose)))
    return gather_points(localizer.feature_map, chosen, "mean", turn)


def _pulls(pyramid: FeaturePyramid, points: PointFeatures, pose: Pose, level: int) -> Pulls:
    """Residual displacements of the points that fall well inside the level."""
    fine = pyramid[level]
    px, valid = fine.camera.to(points.points_map).world2image(pose * points.points_map)
    valid &= inside(px, fine.size, 1.0) & (points.confidences[level] > 0)
    px = px[valid].float()
    confidence = sample(fine.confidence[..., None], px)[:, 0] * points.confidences[level][valid]
    displacement = residual_displacement(fine, points.descriptors[level][valid], px)
    return Pulls(displacement.numpy(), confidence.numpy())


def residual_displacement(
    level: FeatureLevel, descriptors: Float[Tensor, "n c"], points_px: Float[Tensor, "n 2"]
) -> Float[Tensor, " n"]:
    """How far from each place, in cells, the level looks most like its descriptor.

    The whole window is searched in steps of half a cell, then the surroundings of the best place
    in steps of a tenth. Places outside the level do not count.

    Args:
        level: Features of a query.
        descriptors: One for each place.
        points_px: Places in pixels of the level.
    """
    coarse, fine = _window(_REACH, _STEP), _window(_STEP, _FINE_STEP)
    ends: list[Tensor] = []
    chunks = zip(torch.split(descriptors, _CHUNK), torch.split(points_px, _CHUNK), strict=True)
    for some, px in chunks:
        best = _most_alike(level, some, px[:, None] + coarse)
        ends.append(_most_alike(level, some, best[:, None] + fine))
    distance: Tensor = (torch.cat(ends) - points_px).norm(dim=-1)
    return distance


def _window(reach: float, step: float) -> Float[Tensor, "k 2"]:
    axis = torch.arange(-round(reach / step), round(reach / step) + 1) * step
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def _most_alike(
    level: FeatureLevel, descriptors: Float[Tensor, "n c"], places: Float[Tensor, "n k 2"]
) -> Float[Tensor, "n 2"]:
    """Of the places of each descriptor, the one where the level differs least from it."""
    count, per_point, _ = places.shape
    values = sample(level.features, places.reshape(-1, 2)).reshape(count, per_point, -1)
    difference = (values - descriptors[:, None]).square().sum(-1)
    difference[~inside(places, level.size)] = torch.inf
    return places[torch.arange(count), difference.argmin(-1)]


def summarize(found: list[Pulls], stride: int) -> Record:
    """Numbers of one level: medians of both halves, and how many points stay within a cell."""
    top, bottom = [], []
    for pulls in found:
        order = np.argsort(-pulls.confidence, kind="stable")
        half = len(order) // 2
        top.append(pulls.displacement[order[:half]])
        bottom.append(pulls.displacement[order[half:]])
    high, low = np.concatenate(top), np.concatenate(bottom)
    return {
        "stride": stride,
        "points": len(high) + len(low),
        "top_px": stride * float(np.median(high)),
        "bottom_px": stride * float(np.median(low)),
        "ratio": float(np.median(high) / np.median(low)),
        "top_within": float((high < 1).mean()),
        "bottom_within": float((low < 1).mean()),
    }


def _draw_query(image: Image, pyramid: FeaturePyramid, name: str) -> Image:
    """The query and its confidence at each level, stretched to the range that the level has."""
    rgb = as_rgb(image)
    grey = np.full(rgb.shape[:2], 128, np.uint8)
    tiles, notes = [rgb], []
    for level in pyramid:
        confidence = level.confidence.cpu().numpy()
        low, high = np.quantile(confidence, (0.02, 0.98))
        tiles.append(draw_confidence(grey, (confidence - low) / max(high - low, 1e-6)))
        notes.append(f"{level.stride}: {low:.2f}..{high:.2f}")
    height, width = rgb.shape[:2]
    size = (round(width * _PICTURE_HEIGHT / height), _PICTURE_HEIGHT)
    row = [cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles]
    return add_caption(np.concatenate(row, axis=1), f"{Path(name).stem}  {'  '.join(notes)}")


def _stack(pictures: list[Image]) -> Image:
    """Rows one under the other, the narrower ones filled up."""
    width = max(picture.shape[1] for picture in pictures)
    rows = [np.pad(p, ((0, 6), (0, width - p.shape[1]), (0, 0))) for p in pictures]
    return np.concatenate(rows)


def _table(rows: list[Record]) -> str:
    header = (
        "set", "features", "stride", "points", "top half px", "bottom half px", "ratio",
        "top within a cell", "bottom within a cell",
    )  # fmt: skip
    body = [
        (
            row["set"],
            row["features"],
            str(row["stride"]),
            str(row["points"]),
            number(row["top_px"]),
            number(row["bottom_px"]),
            number(row["ratio"]),
            percent(row["top_within"]),
            percent(row["bottom_within"]),
        )
        for row in rows
    ]
    return markdown_table(header, body)


def _write(new: list[Record]) -> None:
    rows = merge_records(read_records(RECORDS), new, KEY)
    rows.sort(key=lambda row: (row["set"], row["features"]))
    write_records(RECORDS, rows)
    text = f"""## Confidence and residual displacement

At the true pose each map point looks, in a window of 6 cells around its projection, for the place
most like it; its distance is the residual displacement (median, px of the image). Halves are by
confidence, each query by itself. A point that finds nothing of its own ends some 5 cells off.

{_table(rows)}

{list_commands(rows)}
"""
    write_section(RESULTS, "confidence", text)


if __name__ == "__main__":
    sys.exit(main())
