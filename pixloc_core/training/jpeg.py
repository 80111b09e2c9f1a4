"""What JPEG leaves of an image: blocks of cosines, rounded."""

import math

import torch
from torch.nn import functional

from pixloc_core.shapes import Float, Tensor

# Quantization of luminance and chrominance at quality 50 (ITU T.81, annex K).
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def compress(
    images: Float[Tensor, "b 3 h w"], quality: Float[Tensor, "b"]
) -> Float[Tensor, "b 3 h w"]:
    """Images in [0, 1] as after JPEG with halved chrominance.

    Args:
        images: In [0, 1].
        quality: Of each, 1 to 100, as cameras and libraries count it.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    to_ycc = images.new_tensor(_TO_YCC)
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, padded) * 255
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp(min=0.01)
    luma, chroma = _tables(images)
    y = _round_blocks(ycc[:, :1] - 128, luma, factor) + 128
    small = functional.avg_pool2d(ycc[:, 1:], 2)
    cc = functional.interpolate(_round_blocks(small, chroma, factor), scale_factor=2.0,
                                mode="bilinear", align_corners=False)  # fmt: skip
    rgb = torch.einsum("ij,bjhw->bihw", to_ycc.inverse(), torch.cat((y, cc), 1)) / 255
    return rgb[..., :height, :width].clamp(0, 1)


def _tables(like: Tensor) -> tuple[Tensor, Tensor]:
    chroma = like.new_full((8, 8), 99.0)
    chroma[:4, :4] = like.new_tensor(_CHROMINANCE_CORNER)
    return like.new_tensor(_LUMINANCE).reshape(8, 8), chroma


def _round_blocks(planes: Tensor, table: Tensor, factor: Tensor) -> Tensor:
    """Planes whose 8x8 blocks have rounded cosine coefficients."""
    steps = (table * factor[:, None, None]).clamp(min=1)[:, None, None, None]
    cosine = _cosine(planes)
    blocks = planes.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = cosine @ blocks @ cosine.T
    rounded = (coefficients / steps).round() * steps
    return (cosine.T @ rounded @ cosine).transpose(3, 4).reshape(planes.shape)


def _cosine(like: Tensor) -> Float[Tensor, "8 8"]:
    """Orthonormal cosine transform: rows are frequencies."""
    frequency = torch.arange(8, dtype=torch.float64)[:, None]
    basis = (math.pi / 8 * (torch.arange(8, dtype=torch.float64) + 0.5) * frequency).cos() / 2
    basis[0] /= math.sqrt(2)
    return basis.to(like)
