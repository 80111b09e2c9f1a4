"""`pixloc preprocess`: published data sets to the files that training reads."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixloc_core.training.collections.image_collection import ImageCollection
    from pixloc_core.training.preprocess.layout import Layout

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
    Gather = Callable[[Layout, str], ImageCollection]

_CMU = """Reads the slices of Extended CMU Seasons: for each slice*/ of DIR a COLMAP model with
points of the database images (PixLoc's authors offer them as sfm_superpoint+superglue/model; any
other will do, --sfm says where it is), database/, query/ and camera-poses/*.txt. Writes
OUT/<slice>.h5."""
_MEGADEPTH = """Reads the scenes of MegaDepth as undistorted by the authors of D2-Net
(Undistorted_SfM): for each folder of DIR a COLMAP model in sparse/ and its images in images/. Any
other set of COLMAP models in this layout, or in another one with --sfm and --images, works too.
Writes OUT/<scene>.h5; images below 480 px are left out, those lying on their side turned."""


def add_parser(subparsers: "Subparsers") -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser("preprocess", help="data sets to files of training pairs")
    verbs = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for name, text in (("cmu", _CMU), ("megadepth", _MEGADEPTH)):
        verb = verbs.add_parser(name, help=f"the {name} data set", description=text)
        verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set")
        verb.add_argument(
            "--out",
            type=Path,
            required=True,
            metavar="OUT",
            help="folder to write, made if needed",
        )
        verb.add_argument(
            "--sfm",
            metavar="TEMPLATE",
            help="COLMAP model of a scene, absolute or relative to DIR; {} stands for its name",
        )
        verb.add_argument(
            "--scenes", nargs="+", default=[], metavar="NAME", help="only these folders of DIR"
        )
        verb.add_argument("--json", action="store_true", help="report as JSON")
    verbs.choices["megadepth"].add_argument(
        "--images", metavar="TEMPLATE", help="images of a scene relative to DIR, as --sfm"
    )


def run(args: argparse.Namespace) -> int:
    """Preprocess; exit code 0 if at least one scene could be written.

    Raises:
        PixlocError: If a folder is missing or no scene can be written.
    """
    from pixloc_core.errors import MapError

    layout, gather = _open(args)
    scenes = layout.scenes(args.scenes)
    args.out.mkdir(parents=True, exist_ok=True)
    report = [_write(layout, scene, gather, args) for scene in scenes]
    failed = [entry for entry in report if "error" in entry]
    if len(failed) == len(report):
        raise MapError(f"none of {len(report)} scenes can be used; {failed[0]['error']}")
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"{len(report) - len(failed)} of {len(report)} scenes written to {args.out}")
    return 0


def _open(args: argparse.Namespace) -> tuple["Layout", "Gather"]:
    from pixloc_core.training.preprocess import cmu, megadepth
    from pixloc_core.training.preprocess.layout import Layout

    chosen = (args.sfm,) if args.sfm else ()
    if args.dataset == "cmu":
        return Layout(args.data, chosen or cmu.MODELS), cmu.gather_slice
    images = args.images or megadepth.IMAGES
    return Layout(args.data, chosen or megadepth.MODELS, images), megadepth.gather_scene


def _write(
    layout: "Layout", scene: str, gather: "Gather", args: argparse.Namespace
) -> dict[str, object]:
    """Write one scene and describe it; what makes it unusable is reported, the others go on."""
    import sys

    from pixloc_core.errors import PixlocError
    from pixloc_core.training.collections.collection_file import SUFFIX, write_collection

    try:
        collection = gather(layout, scene)
    except PixlocError as error:
        print(f"pixloc preprocess: {scene} is left out: {error}", file=sys.stderr)
        return {"scene": scene, "error": str(error)}
    path = args.out / f"{scene}{SUFFIX}"
    write_collection(path, collection)
    described: dict[str, object] = {
        "scene": scene,
        "file": str(path),
        "references": int(collection.is_reference.sum()),
        "queries": int(collection.is_query.sum()),
        "points": len(collection.points_world),
        "turned": int((collection.quarter_turns > 0).sum()),
    }
    if not args.json:
        print(
            f"{scene}: {described['references']} references, {described['queries']} queries, "
            f"{described['points']} points, {described['turned']} images turned"
        )
    return described
