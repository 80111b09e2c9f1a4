"""`pixloc map retrieval`: index of a map's images by what they show."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixloc_core.map.feature_map import FeatureMap
    from pixloc_core.retrieval.descriptor import DescriptorConfig
    from pixloc_core.retrieval.index import RetrievalIndex

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: "Subparsers") -> None:
    """Declare the sub-verb of `pixloc map` and its arguments."""
    parser = subparsers.add_parser(
        "retrieval",
        help="index of the map images, for starts without a pose",
        description="Describes every map image by one vector, so that the images most like a "
        "query are found at once. The index lies beside the map.",
    )
    parser.add_argument("map", type=Path, help="feature map (.h5)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="folder of the map images")
    source.add_argument(
        "--descriptors", type=Path, help="global descriptors of the map images, made by hloc (.h5)"
    )
    parser.add_argument("--model", help="hloc's name of its network (netvlad, ...)")
    parser.add_argument("--out", type=Path, help="index to write (default: MAP.retrieval.h5)")
    parser.add_argument("--device", help="torch device: cpu (default), cuda, cuda:1")
    parser.add_argument("--conf", type=Path, help="YAML file of settings")
    parser.add_argument("--json", action="store_true", help="describe the result as JSON")
    parser.add_argument("settings", nargs="*", default=[], metavar="a.b=c", help="single settings")


def make_index(args: argparse.Namespace) -> "tuple[RetrievalIndex, Path]":
    """Build the index that the arguments ask for, and write it.

    Raises:
        PixlocError: If the map, an image, a setting or a file cannot be used.
    """
    from pixloc_core.errors import MapError
    from pixloc_core.map.feature_map import FeatureMap
    from pixloc_core.retrieval.index import RetrievalIndex
    from pixloc_core.retrieval.index_file import index_path

    feature_map = FeatureMap.open(args.map)
    out = args.out or index_path(args.map)
    if not out.parent.is_dir():
        raise MapError(f"{out}: cannot be written, its folder does not exist")
    config = _config(args)
    if args.descriptors is not None:
        index = RetrievalIndex.from_hloc(feature_map, args.descriptors, config)
    else:
        index = build_with_bar(feature_map, args.images, config)
    return index, index.save(out)


def _config(args: argparse.Namespace) -> "DescriptorConfig":
    """Settings, from the flags that stand for some of them, too.

    Raises:
        ConfigError: If one is unknown, out of range, or hloc's file comes without its model.
    """
    import json

    from pixloc_core.config import load
    from pixloc_core.errors import ConfigError
    from pixloc_core.retrieval.descriptor import DescriptorConfig

    flags = [] if args.device is None else [f"device={json.dumps(args.device)}"]
    if args.model is not None:
        flags += ["kind=hloc", f"hloc.model={json.dumps(args.model)}"]
    elif args.descriptors is not None:
        raise ConfigError("--descriptors needs --model, the network of hloc that made them")
    return load(DescriptorConfig, args.conf, [*flags, *args.settings])


def build_with_bar(
    feature_map: "FeatureMap", images: Path, config: "DescriptorConfig"
) -> "RetrievalIndex":
    """Build an index, and show how far it is."""
    from tqdm import tqdm

    from pixloc_core.retrieval.index import RetrievalIndex

    with tqdm(unit="image", desc="retrieval", disable=None) as bar:

        def show(done: int, total: int) -> None:
            if done < bar.n:
                bar.reset()
            bar.total = total
            bar.update(done - bar.n)

        return RetrievalIndex.build(feature_map, images, config, progress=show)


def describe(index: "RetrievalIndex", path: Path) -> dict[str, Any]:
    """What is in an index, as plain JSON values."""
    return {
        "file": str(path),
        "size_mb": round(path.stat().st_size / 1e6, 2),
        "images": len(index),
        "map_id": index.feature_map.content_id,
        "descriptor": index.descriptor.kind,
        "length": index.descriptor.dim,
        "descriptor_fingerprint": index.descriptor.fingerprint,
    }
