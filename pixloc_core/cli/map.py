"""`pixloc map`: feature map of a COLMAP model and its images, its retrieval index, its content."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixloc_core.cli import retrieval

if TYPE_CHECKING:
    from pixloc_core.map.feature_map import FeatureMap

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser("map", help="build or describe a feature map")
    verbs = parser.add_subparsers(dest="map_verb", required=True, metavar="VERB")
    build = verbs.add_parser(
        "build",
        help="COLMAP model and images to a feature map",
        description="Extracts the features of all map images once and stores them for every "
        "observation of a map point.",
    )
    build.add_argument("--sfm", type=Path, required=True, help="folder of the COLMAP model")
    build.add_argument("--images", type=Path, required=True, help="folder of the map images")
    build.add_argument("--out", type=Path, required=True, help="feature map to write (.h5)")
    build.add_argument(
        "--weights",
        help="weights file of a network, or the name of shipped weights (default: light); for "
        "training-free features give extractor.kind=gradients",
    )
    build.add_argument("--device", help="torch device: cpu (default), cuda, cuda:1")
    build.add_argument(
        "--retrieval", action="store_true", help="make the retrieval index beside it, too"
    )
    build.add_argument("--conf", type=Path, help="YAML file of settings")
    build.add_argument("--json", action="store_true", help="describe the result as JSON")
    build.add_argument("settings", nargs="*", default=[], metavar="a.b=c", help="single settings")
    info = verbs.add_parser("info", help="describe a feature map")
    info.add_argument("map", type=Path, help="feature map (.h5)")
    info.add_argument("--json", action="store_true", help="print JSON")
    retrieval.add_parser(verbs)


def run(args: argparse.Namespace) -> int:
    """Build or describe a map, or make its index; exit code 0.

    Raises:
        PixlocError: If a model, an image, a setting, weights or the map cannot be used.
    """
    from pixloc_core.map.feature_map import FeatureMap

    if args.map_verb == "retrieval":
        description = retrieval.describe(*retrieval.make_index(args))
    else:
        feature_map = _build(args) if args.map_verb == "build" else FeatureMap.open(args.map)
        description = describe(feature_map)
    if args.json:
        print(json.dumps(description, indent=1))
    else:
        width = max(len(name) for name in description) + 2
        for name, value in description.items():
            print(f"{name.replace('_', ' '):<{width}}{_text(value)}")
    return 0


def _build(args: argparse.Namespace) -> "FeatureMap":
    from tqdm import tqdm

    from pixloc_core.config import load
    from pixloc_core.errors import MapError
    from pixloc_core.evaluation.assembly import RunConfig
    from pixloc_core.features.extractor import create_extractor
    from pixloc_core.features.reference import build_feature_map
    from pixloc_core.map.colmap_format import from_colmap
    from pixloc_core.retrieval.descriptor import DescriptorConfig
    from pixloc_core.retrieval.faiss_library import require_faiss

    if args.retrieval:
        require_faiss()
    if not args.out.parent.is_dir():
        raise MapError(f"{args.out}: cannot be written, its folder does not exist")
    config = load(RunConfig, args.conf, [*_flags(args), *args.settings])
    extractor = create_extractor(config.extractor)
    sparse = from_colmap(args.sfm)
    with tqdm(total=sparse.num_images, unit="image", desc="build map", disable=None) as bar:

        def show(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        feature_map = build_feature_map(sparse, args.images, extractor, args.out, show)
    if args.retrieval:
        device = config.extractor.device
        index = retrieval.build_with_bar(feature_map, args.images, DescriptorConfig(device=device))
        index.save()
    return feature_map


def _flags(args: argparse.Namespace) -> list[str]:
    """The settings that have a flag of their own."""
    from pixloc_core.features.shipped_weights import SHIPPED

    flags = []
    if args.weights is not None:
        # The map remembers where its weights are, for whoever opens it from elsewhere.
        shipped = args.weights in SHIPPED
        weights = args.weights if shipped else str(Path(args.weights).absolute())
        flags += [
            "extractor.kind=network",
            f"extractor.network.weights={json.dumps(weights)}",
        ]
    if args.device is not None:
        flags.append(f"extractor.device={json.dumps(args.device)}")
    return flags


def describe(feature_map: "FeatureMap") -> dict[str, Any]:
    """What is in a map, and how well it agrees with itself, as plain JSON values."""
    import numpy as np

    from pixloc_core.map.covisibility import connected_parts
    from pixloc_core.map.map_file import VERSION
    from pixloc_core.map.reprojection import reprojection_errors

    sparse = feature_map.sparse
    parts = connected_parts(sparse).bincount()
    low, high = np.percentile(sparse.points_map.numpy(), [5, 95], axis=0)
    vectors = feature_map.global_descriptors
    return {
        "file": str(feature_map.path),
        "version": VERSION,
        "size_mb": round(feature_map.path.stat().st_size / 1e6, 1),
        "images": sparse.num_images,
        "cameras": len(sparse.cameras),
        "points": sparse.num_points,
        "observations": sparse.num_observations,
        "mean_track_length": round(float(sparse.track_length.double().mean()), 2),
        "median_reprojection_px": round(float(reprojection_errors(sparse).median()), 3),
        "extent_of_90_percent_of_points": [round(side, 3) for side in (high - low).tolist()],
        "origin": sparse.origin.tolist(),
        "images_in_connected_parts": sorted(parts.tolist(), reverse=True),
        "features": feature_map.extractor_config.get("kind", "unknown"),
        "weights": feature_map.extractor_config.get("network", {}).get("weights", "none"),
        "channels_fine_to_coarse": list(feature_map.channels),
        "global_descriptor_length": 0 if vectors is None else int(vectors.shape[1]),
        "extractor_fingerprint": feature_map.extractor_fingerprint,
        "sfm_fingerprint": sparse.fingerprint,
    }


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
