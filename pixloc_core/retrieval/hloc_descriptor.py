"""Global descriptors of hloc: its files, and its networks where hloc is installed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from pixloc_core.config import check, setting, to_dict
from pixloc_core.errors import ConfigError, ImageError, MapError
from pixloc_core.features.preprocessing import Image
from pixloc_core.geometry import Camera
from pixloc_core.retrieval.local_features import Array
from pixloc_core.retrieval.vocabulary import unit

# The entry of an image in hloc's files; others beside it (image_size) are none.
_ENTRY = "global_descriptor"


@dataclass(frozen=True, kw_only=True)
class HlocConfig:
    """Which of hloc's networks."""

    model: str = setting(
        "netvlad",
        doc="Name among `hloc.extract_features.confs`: netvlad, openibl, eigenplaces, ...",
    )

    def __post_init__(self) -> None:
        check(self)


class HlocDescriptor:
    """A network of hloc, loaded when it is first used; pixels are prepared as hloc does.

    Args:
        config: Which one.
        dim: Length of its vectors; 0 where it is not known before the first image.
        device: Torch device.
    """

    def __init__(self, config: HlocConfig, dim: int = 0, device: str = "cpu") -> None:
        self._config = config
        self._dim = dim
        self._device = device
        self._network: Any = None
        self._settings: Mapping[str, Any] = {}

    @property
    def kind(self) -> str:
        """Its name among the descriptors."""
        return "hloc"

    @property
    def dim(self) -> int:
        """Length of a descriptor; 0 if not known yet."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """Hash of the name of the model: hloc has one set of weights for each."""
        return hashlib.sha256(f"hloc {self._config.model}".encode()).hexdigest()

    @property
    def config_dict(self) -> dict[str, Any]:
        """Its settings as plain JSON values."""
        return to_dict(self._config)

    def arrays(self) -> dict[str, Array]:
        """Nothing was learned on the map."""
        return {}

    def load(self) -> None:
        """Load the network.

        Raises:
            ConfigError: If hloc is not installed, has no descriptor of that name, or cannot load
                its network.
        """
        if self._network is not None:
            return
        try:
            from hloc import extract_features, extractors
            from hloc.utils.base_model import dynamic_load
        except ImportError as error:
            raise ConfigError(
                f"global descriptor {self._config.model!r} needs the package hloc, which is not "
                "installed (github.com/cvg/Hierarchical-Localization); the built-in one, vlad, "
                "needs none"
            ) from error
        conf = extract_features.confs.get(self._config.model)
        if conf is None:
            raise ConfigError(f"HlocConfig.model is {self._config.model!r}, unknown to hloc")
        self._settings = conf.get("preprocessing", {})
        try:
            model = dynamic_load(extractors, conf["model"]["name"])
            self._network = model(conf["model"]).eval().to(self._device)
        # Weights that cannot be downloaded, packages of that model that are missing, the device.
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise ConfigError(f"hloc's {self._config.model!r} cannot be loaded: {text}") from error

    @torch.inference_mode()
    def describe(self, image: Image, camera: Camera | None = None) -> Array:
        """Vector (dim) of unit length.

        Args:
            image: Array (h, w, 3) in RGB or (h, w) in grey, uint8.
            camera: Not needed.

        Raises:
            ImageError: If the image is empty or not 8 bit.
            ConfigError: As `load`, or if the network gives no global descriptor.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
            raise ImageError(
                f"image of shape {image.shape} and type {image.dtype}, expected (h, w, 3) RGB or "
                "(h, w) grey of type uint8, not empty"
            )
        self.load()
        batch = torch.from_numpy(_prepare(image, self._settings))[None].to(self._device)
        found = self._network({"image": batch})
        if _ENTRY not in found:
            raise ConfigError(f"hloc's {self._config.model!r} gives no {_ENTRY}")
        vector = unit(found[_ENTRY][0].float().cpu().numpy().ravel())
        self._dim = len(vector)
        return vector


def _prepare(image: Image, settings: Mapping[str, Any]) -> Array:
    """Channels, height, width in [0, 1], shrunk as hloc's settings say."""
    pixels = image.astype(np.float32)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    height, width = pixels.shape[:2]
    limit = settings.get("resize_max")
    if limit and (settings.get("resize_force") or max(height, width) > limit):
        scale = limit / max(height, width)
        size = round(width * scale), round(height * scale)
        mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=mode), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) / np.float32(255))


def read_hloc_vectors(path: str | Path, names: Sequence[str]) -> Array:
    """Global descriptors of images from a file of `hloc.extract_features`.

    Args:
        path: HDF5 file with `<image name>/global_descriptor`.
        names: Images wanted.

    Returns:
        Vectors (n, dim) of unit length.

    Raises:
        MapError: If the file cannot be read, lacks an image, or its vectors are no vectors of one
            length.
    """
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        raise MapError(f"{path}: no HDF5 file of global descriptors")
    with h5py.File(path, "r") as file:
        missing = [name for name in names if f"{name}/{_ENTRY}" not in file]
        if missing:
            raise MapError(
                f"{path}: no {_ENTRY} of image {missing[0]!r} "
                f"({len(missing)} of {len(names)} images of the map are missing)"
            )
        rows: list[NDArray[Any]] = [file[f"{name}/{_ENTRY}"][()] for name in names]
    if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1:
        shapes = sorted({row.shape for row in rows})
        raise MapError(f"{path}: vectors of shapes {shapes}, expected one length for all")
    vectors = np.stack(rows).astype(np.float32)
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise MapError(f"{path}: a vector is zero or not finite")
    return unit(vectors)
