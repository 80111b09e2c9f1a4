"""Changes of the appearance of images: light, camera, compression, obstacles."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixloc_core.config import check, setting
from pixloc_core.shapes import Float, Tensor


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """How differently two images of one place may look."""

    strength: float = setting(
        1.0, doc="Factor of all changes; 0: none, 0.3: mild, 1: any robot.", ge=0.0, le=2.0
    )

    def __post_init__(self) -> None:
        check(self)


def change_appearance(
    images: Float[Tensor, "b 3 h w"],
    generators: Sequence[torch.Generator],
    config: PhotometricConfig,
) -> Float[Tensor, "b 3 h w"]:
    """Change each image on its own.

    Args:
        images: In [0, 1].
        generators: Random numbers (on the CPU), one for each image.
        config: How much.

    Returns:
        Images in [0, 1] on the device of the images.
    """
    if config.strength == 0:
        return images
    draws = torch.stack([torch.randn(8, generator=g) for g in generators]).to(images)
    gain = (0.25 * config.strength * draws[:, :1] + 0.06 * config.strength * draws[:, 1:4]).exp()
    gamma = (0.2 * config.strength * draws[:, 4]).exp()
    changed = (images * gain[..., None, None]).clamp(0, 1) ** gamma[:, None, None, None]
    noise = torch.stack([torch.randn(images.shape[1:], generator=g) for g in generators])
    sigma = 0.02 * config.strength * draws[:, 5].abs()
    return (changed + sigma[:, None, None, None] * noise.to(images)).clamp(0, 1)
