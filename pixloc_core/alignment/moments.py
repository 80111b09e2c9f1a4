"""Inner products of residual and map gradient at points: all that the 6x6 system needs.

With the residual `r` (c) and the spatial gradient `G = (x, y)` (c x 2) of a point, its share of
the normal equations depends on `r.r`, `G^T r` and `G^T G` only. They are six numbers, whatever the
number of channels, so the Jacobian of all channels (n x c x 6) is never built.
`benchmarks/lm_iteration.py` compares this with the plain formulation.
"""

from typing import NamedTuple

import torch

from pixloc_core.geometry.interpolation import Mode, make_stencil
from pixloc_core.shapes import Float, Tensor


class Moments(NamedTuple):
    """What a map says at points, reduced over its channels (eq. 5.10), in float64.

    Attributes:
        squared: `r.r`.
        gradient: `G^T r`.
        tensor: `G^T G`, the structure tensor.
        confidence: Confidence of the query at the points.
    """

    squared: Float[Tensor, "*b n"]
    gradient: Float[Tensor, "*b n 2"]
    tensor: Float[Tensor, "*b n 2 2"]
    confidence: Float[Tensor, "*b n"]


def residual_moments(
    features: Float[Tensor, "*m h w c"],
    confidence: Float[Tensor, "*m h w"],
    points_px: Float[Tensor, "*b n 2"],
    reference: Float[Tensor, "*m n c"],
    *,
    mode: Mode = "linear",
    normalize: bool = False,
) -> Moments:
    """Sample a map at points and reduce over the channels.

    Args:
        features: One map, or a batch of maps.
        confidence: Confidence of each pixel.
        points_px: Pixels in the map. A batch of maps needs the same batch here; a single map is
            shared by all batches of points.
        reference: Descriptors to subtract; shared likewise.
        mode: Interpolation, see `geometry.interpolation`.
        normalize: Scale each sampled value to unit length, and its gradient with it.
    """
    stencil = make_stencil(points_px, features, mode)
    value, (x, y) = stencil.value(features), stencil.gradient(features)
    if normalize:
        norm = value.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        value, x, y = value / norm, x / norm, y / norm
        x, y = x - _dot(value, x)[..., None] * value, y - _dot(value, y)[..., None] * value
    r = value - reference
    xx, xy, yy = _dot(x, x), _dot(x, y), _dot(y, y)
    tensor = torch.stack((xx, xy, xy, yy), -1).double()
    return Moments(
        _dot(r, r).double(),
        torch.stack((_dot(x, r), _dot(y, r)), -1).double(),
        tensor.view(*xx.shape, 2, 2),
        stencil.value(confidence[..., None])[..., 0].double(),
    )


def _dot(a: Float[Tensor, "*b c"], b: Float[Tensor, "*b c"]) -> Float[Tensor, "*b"]:
    # On a CPU faster than einsum or batched products of such small matrices.
    return (a * b).sum(-1)
