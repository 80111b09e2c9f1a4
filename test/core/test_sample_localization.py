"""The features that ship, from end to end: a map made by day, images of the evening."""

from pathlib import Path

import pytest
import torch

from pixloc_core.bags.reader import BagReader
from pixloc_core.bags.topics import BagLayout
from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.localizer.localizer import Localizer
from pixloc_core.localizer.prior import Prior
from pixloc_core.map.colmap_format import from_colmap

SAMPLE = Path(__file__).resolve().parents[2] / "sample"
LAYOUT = BagLayout()
# Where odometry may have led within a second: 0.1 m and 3 degrees aside.
OFFSET = torch.tensor([0.06, -0.06, 0.05, 0.03, -0.03, 0.03], dtype=torch.float64)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    """In the map of the sample, with nothing set: as `pixloc map build` and the node have it."""
    path = tmp_path_factory.mktemp("sample") / "map.h5"
    sparse = from_colmap(SAMPLE / "map" / "sfm")
    extractor = create_extractor(ExtractorConfig())
    build_feature_map(sparse, SAMPLE / "map" / "images", extractor, path)
    return Localizer.open(path)


def test_evening_images_are_localized_in_the_map_of_the_day_with_the_shipped_weights(
    localizer: Localizer,
) -> None:
    bag = BagReader(SAMPLE / "evening")
    camera = bag.camera(LAYOUT.camera_info).double()
    base_from_cam = bag.static_transform(LAYOUT.tf_static, LAYOUT.base_frame, LAYOUT.camera_frame)
    stamps = bag.image_stamps(LAYOUT.image)[10::20]
    truth = (bag.trajectory(LAYOUT.ground_truth).at(stamps)[0] @ base_from_cam).inv()
    position, angle = [], []
    for (_, image), cam_from_map in zip(
        bag.images(LAYOUT.image, stamps.tolist()), truth, strict=True
    ):
        prior = Prior.from_pose(cam_from_map.retract(OFFSET))
        result = localizer.localize(image, camera, prior)
        assert result.cam_from_map is not None, result.reason
        turn, _ = (result.cam_from_map @ cam_from_map.inv()).magnitude()
        position.append(float((result.cam_from_map.center - cam_from_map.center).norm()))
        angle.append(float(turn))
    assert max(position) < 0.05
    assert max(angle) < 0.5


def test_the_map_of_the_sample_names_no_place_of_this_machine(localizer: Localizer) -> None:
    remembered = localizer.feature_map.extractor_config
    assert remembered["kind"] == "network"
    assert remembered["network"]["weights"] == "light"
