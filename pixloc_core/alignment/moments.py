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

# Numbers of one sampled tensor that still stay in the cache of a CPU core (1 MB).
CACHED_NUMBERS = 2**18


class Moments(NamedTuple):
    """What a map says at points, reduced over its channels (eq. 5.10).

    Attributes:
        rr: `r.r`, the squared residual.
        xr: `x.r`.
        yr: `y.r`.
        xx: `x.x`; the last three are the structure tensor of the map.
        xy: `x.y`.
        yy: `y.y`.
        confidence: Confidence of the query at the points.
    """

    rr: Float[Tensor, "*b n"]
    xr: Float[Tensor, "*b n"]
    yr: Float[Tensor, "*b n"]
    xx: Float[Tensor, "*b n"]
    xy: Float[Tensor, "*b n"]
    yy: Float[Tensor, "*b n"]
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
    is_shared = features.ndim == 3 and points_px.ndim == 3
    together = max(1, CACHED_NUMBERS // max(1, reference.numel())) if is_shared else len(points_px)
    if together >= len(points_px):
        return _sample_and_reduce(features, confidence, points_px, reference, mode, normalize)
    # Many hypotheses: a few at a time, faster than through main memory.
    parts = [
        _sample_and_reduce(features, confidence, some_px, reference, mode, normalize)
        for some_px in torch.split(points_px, together)
    ]
    return Moments(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _sample_and_reduce(
    features: Float[Tensor, "*m h w c"],
    confidence: Float[Tensor, "*m h w"],
    points_px: Float[Tensor, "*b n 2"],
    reference: Float[Tensor, "*m n c"],
    mode: Mode,
    normalize: bool,
) -> Moments:
    stencil = make_stencil(points_px, features, mode)
    value, slopes = stencil.value(features), stencil.gradient(features)
    if normalize:
        norm = value.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        value, slopes = value / norm, slopes / norm
        slopes = slopes - _dot(value, slopes)[..., None] * value
    r, (x, y) = value - reference, slopes
    xr, yr = _dot(slopes, r)
    return Moments(
        _dot(r, r),
        xr,
        yr,
        _dot(x, x),
        _dot(x, y),
        _dot(y, y),
        stencil.value(confidence[..., None])[..., 0],
    )


def _dot(a: Float[Tensor, "*b c"], b: Float[Tensor, "*b c"]) -> Float[Tensor, "*b"]:
    # On a CPU faster than einsum or batched products of such small matrices.
    return (a * b).sum(-1)
