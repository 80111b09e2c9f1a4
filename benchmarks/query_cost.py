"""What a cached map saves: a query against it, and the same query with references extracted anew.

    python -m benchmarks.query_cost [--sfm DIR --images DIR] [--encoder vgg19] [--write]

A map image plays the query; its best references are cut out of the map, so that they alone have to
be extracted. The weights are random: they cost what learned ones cost. The two ways take turns in
one run, and each repetition gives one ratio. Exit 1 if the median ratio is above the limit.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.results_file import write_section
from pixloc_core.alignment.aligner_config import AlignerConfig
from pixloc_core.alignment.coarse_to_fine import AlignmentResult, align
from pixloc_core.errors import PixlocError
from pixloc_core.features.encoders import ENCODERS
from pixloc_core.features.network_extractor import NetworkExtractor, NetworkExtractorConfig
from pixloc_core.features.preprocessing import Image, load_image
from pixloc_core.features.reference import (
    PointFeatures,
    build_feature_map,
    extract_points,
    gather_points,
)
from pixloc_core.features.unet import UNet, UNetConfig
from pixloc_core.features.weights import Weights
from pixloc_core.geometry import Camera, Pose
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.map.selection import (
    Selection,
    SelectionConfig,
    select_points,
    select_references,
)
from pixloc_core.map.sparse_map import SparseMap

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 0.25
RESULTS = Path(__file__).with_name("results.md")
NUM_REFERENCES = 5
# A start a few pixels off: in metres of the map and radians.
OFFSET = (0.02, -0.01, 0.02, 0.005, -0.005, 0.003)


@dataclass(frozen=True)
class Task:
    """A query and the part of the map that it is aligned to."""

    image: Image
    camera: Camera
    start: Pose
    sparse: SparseMap
    images_dir: Path
    selection: SelectionConfig

    def select(self) -> Selection:
        """Points seen by any of the references."""
        every = range(self.sparse.num_images)
        return select_points(self.sparse, every, self.selection, self.start, self.camera)


def keep_images(sparse: SparseMap, images: list[int]) -> SparseMap:
    """The map with these images alone, in this order; points without observation remain."""
    observations = sparse.observations_of_images(images)
    counts = sparse.obs_offsets.diff()[images]
    obs_point = sparse.obs_point[observations]
    return replace(
        sparse,
        image_names=tuple(sparse.image_names[image] for image in images),
        image_camera=sparse.image_camera[images],
        cam_from_map=sparse.cam_from_map[torch.tensor(images)],
        track_length=torch.bincount(obs_point, minlength=sparse.num_points),
        obs_offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        obs_point=obs_point,
        obs_px=sparse.obs_px[observations],
    )


def make_task(sfm: Path, images_dir: Path) -> Task:
    """Let the map image in the middle be the query, aligned to its best references."""
    sparse = from_colmap(sfm)
    query = sparse.num_images // 2
    pose, camera = sparse.cam_from_map[query].reshape(1), sparse.camera_of(query)
    others = keep_images(sparse, [i for i in range(sparse.num_images) if i != query])
    config = SelectionConfig(
        num_references=NUM_REFERENCES, observations_per_point=NUM_REFERENCES, min_track_length=1
    )
    references = select_references(others, pose, camera, config)
    image = load_image(images_dir / sparse.image_names[query])
    start = pose.retract(torch.tensor([OFFSET], dtype=torch.float64))
    return Task(image, camera, start, keep_images(others, references), images_dir, config)


@dataclass(frozen=True)
class Answer:
    """One query: seconds by stage, seconds of all CPU cores together, and the result."""

    seconds: dict[str, float]
    cpu_seconds: float
    result: AlignmentResult

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())


def localize(
    task: Task, extractor: NetworkExtractor, read_points: Callable[[Selection], PointFeatures]
) -> Answer:
    """Localize the query once."""
    cpu_start = time.process_time()
    marks = [time.perf_counter()]
    with torch.inference_mode():
        pyramid = extractor.extract(task.image, task.camera)
        marks.append(time.perf_counter())
        selection = task.select()
        marks.append(time.perf_counter())
        points = read_points(selection)
        marks.append(time.perf_counter())
        result = align(pyramid, points, task.start, AlignerConfig())
        marks.append(time.perf_counter())
    stages = ("extract", "select", "references", "align")
    seconds = {stage: b - a for stage, (a, b) in zip(stages, pairwise(marks), strict=True)}
    return Answer(seconds, time.process_time() - cpu_start, result)


def compare(task: Task, extractor: NetworkExtractor, repetitions: int) -> dict[str, Any]:
    """Run both ways in turns, after one unmeasured turn."""
    with tempfile.TemporaryDirectory() as folder:
        cached_map: FeatureMap = build_feature_map(
            task.sparse, task.images_dir, extractor, Path(folder) / "map.h5"
        )
        ways: dict[str, Callable[[Selection], PointFeatures]] = {
            "cached": lambda selection: gather_points(cached_map, selection, "mean"),
            "anew": lambda selection: extract_points(
                task.sparse, task.images_dir, extractor, selection, "mean"
            ),
        }
        turns = [
            {way: localize(task, extractor, read) for way, read in ways.items()}
            for _ in range(repetitions + 1)
        ]
    return {
        "references": task.sparse.num_images,
        "points": len(task.select()),
        "image": f"{task.image.shape[1]}x{task.image.shape[0]}",
        **summarize(turns[1:]),
    }


def summarize(turns: list[dict[str, Answer]]) -> dict[str, Any]:
    """Medians over the turns."""
    cached, anew = ([turn[way] for turn in turns] for way in ("cached", "anew"))
    pairs = list(zip(cached, anew, strict=True))
    offset = cached[0].result.cam_from_map[0] @ anew[0].result.cam_from_map[0].inv()
    angle_deg, distance = offset.magnitude()
    return {
        "ratio": statistics.median(a.total / b.total for a, b in pairs),
        "cpu_ratio": statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs),
        "limit": LIMIT,
        "pose_difference": {"deg": float(angle_deg), "map_units": float(distance)},
        "seconds": {
            way: {
                "total": statistics.median(answer.total for answer in answers),
                **{
                    stage: statistics.median(answer.seconds[stage] for answer in answers)
                    for stage in answers[0].seconds
                },
            }
            for way, answers in (("cached", cached), ("anew", anew))
        },
    }


def format_table(result: dict[str, Any]) -> str:
    """Markdown table of the medians."""
    head = "| encoder | references | total s | extract s | select s | references s | align s |"
    rows = [
        f"| {result['encoder']} | {way} | "
        + " | ".join(f"{value:.3f}" for value in seconds.values())
        + " |"
        for way, seconds in result["seconds"].items()
    ]
    note = (
        f"{result['references']} references, {result['image']}, {result['points']} points: ratio "
        f"{result['ratio']:.3f} (CPU time of all cores: {result['cpu_ratio']:.3f}), "
        f"limit {LIMIT}."
    )
    return "\n".join([head, "|---" * 7 + "|", *rows, "", note])


def make_extractor(encoder: str, device: str) -> NetworkExtractor:
    """A network with random weights that keep the variance of the image through all layers."""
    generator = torch.Generator().manual_seed(0)
    config = UNetConfig(encoder=encoder)
    network = UNet(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
    weights = Weights(config, network.state_dict())
    return NetworkExtractor(weights, NetworkExtractorConfig(), device)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sample = REPOSITORY / "sample" / "map"
    parser.add_argument("--sfm", type=Path, default=sample / "sfm", help="COLMAP model")
    parser.add_argument("--images", type=Path, default=sample / "images", help="its images")
    parser.add_argument("--encoder", choices=ENCODERS, default="vgg19")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--write", action="store_true", help="write results.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        task = make_task(args.sfm, args.images)
        result = compare(task, make_extractor(args.encoder, args.device), args.repetitions)
    except PixlocError as error:
        print(error, file=sys.stderr)
        return 2
    result["encoder"] = args.encoder
    table = format_table(result)
    print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.write:
        text = f"## Cached references\n\n`python -m benchmarks.query_cost --write`\n\n{table}"
        write_section(RESULTS, "query_cost", text)
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
