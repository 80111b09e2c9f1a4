"""The toy room: its images, its feature map, and a retrieval index of it."""

from pathlib import Path

import pytest
from toy_world import ToyWorld

from pixloc_core.features.extractor import ExtractorConfig, create_extractor
from pixloc_core.features.reference import build_feature_map
from pixloc_core.map.colmap_format import from_colmap
from pixloc_core.map.feature_map import FeatureMap
from pixloc_core.retrieval.index import RetrievalIndex, SearchConfig

REASON = "needs faiss-cpu (the extra `retrieval`)"


@pytest.fixture(scope="session")
def world() -> ToyWorld:
    """The room in eight images."""
    return ToyWorld(num_images=8)


@pytest.fixture(scope="session")
def images(world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of its images, beside that of its model (sfm)."""
    return world.write(tmp_path_factory.mktemp("room"))[1]


@pytest.fixture(scope="session")
def feature_map(images: Path) -> FeatureMap:
    """Its feature map, with the training-free features."""
    extractor = create_extractor(ExtractorConfig(kind="gradients"))
    sparse = from_colmap(images.parent / "sfm")
    return build_feature_map(sparse, images, extractor, images.parent / "map.h5")


@pytest.fixture(scope="session")
def index(feature_map: FeatureMap, images: Path) -> RetrievalIndex:
    """Its index, with the built-in descriptor at its defaults; every image is a candidate."""
    pytest.importorskip("faiss", reason=REASON)
    return RetrievalIndex.build(feature_map, images, config=SearchConfig(min_motion=0.0))
