"""Inner products of residual and map gradient at points: all that the 6x6 system needs.

With the residual `r` (c) and the spatial gradient `G = (x, y)` (c x 2) of a point, its share of
the normal equations depends on `r.r`, `G^T r` and `G^T G` only. They are six numbers, whatever the
number of channels, so the Jacobian of all channels (n x c x 6) is never built. Value and gradient
are weighted sums of pixels: one gather-and-add yields the three vectors of all points.

This is the innermost loop. It samples as `geometry.interpolation` does (a test holds them equal)
in two thirds of the time; `benchmarks/lm_iteration.py` compares it with the plain formulation.
"""

import itertools
from typing import NamedTuple

import torch
from torch.nn import functional

from pixloc_core.geometry.interpolation import Mode
from pixloc_core.shapes import Float, Int, Tensor

# Weights of the pixels -1, 0, 1, 2 along an axis (columns 0 to 3) and their derivatives by the
# position (columns 4 to 7), as polynomials of the fraction t: rows 1, t, t^2, t^3 (eq. 3.1-3.4).
POLYNOMIALS: dict[Mode, tuple[tuple[float, ...], ...]] = {
    "linear": (
        (0.0, 1.0, 0.0, 0.0, -0.5, 0.0, 0.5, 0.0),
        (0.0, -1.0, 1.0, 0.0, 0.5, -0.5, -0.5, 0.5),
    ),
    "linear_analytic": (
        (0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0),
        (0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "cubic": (
        (0.0, 1.0, 0.0, 0.0, -0.5, 0.0, 0.5, 0.0),
        (-0.5, 0.0, 0.5, 0.0, 2.0, -5.0, 4.0, -1.0),
        (1.0, -2.5, 2.0, -0.5, -1.5, 4.5, -4.5, 1.5),
        (-0.5, 1.5, -1.5, 0.5, 0.0, 0.0, 0.0, 0.0),
    ),
}
# Numbers of one sampled tensor that still stay in the cache of a CPU core (1 MB).
CACHED_NUMBERS = 2**18
# From so many channels on a product of small matrices beats six sums.
MANY_CHANNELS = 64


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


class MomentSampler:
    """Samples one map, or a batch of maps, at changing points.

    Args:
        features: One map, or a batch of maps; half precision is widened once.
        confidence: Confidence of each pixel.
        mode: Interpolation, see `geometry.interpolation`.
        normalize: Scale each sampled value to unit length, and its gradient with it.
    """

    def __init__(
        self,
        features: Float[Tensor, "*m h w c"],
        confidence: Float[Tensor, "*m h w"],
        *,
        mode: Mode = "linear",
        normalize: bool = False,
    ) -> None:
        self._batch, (self._height, self._width) = features.shape[:-3], features.shape[-3:-1]
        dtype = torch.promote_types(features.dtype, torch.float32)
        self._rows = features.reshape(-1, features.shape[-1]).to(dtype)
        self._confidence = confidence.reshape(-1).to(dtype)
        self._normalize = normalize
        self._taps = _Taps(mode, self._rows)

    def __call__(
        self, points_px: Float[Tensor, "*b n 2"], reference: Float[Tensor, "*m n c"]
    ) -> Moments:
        """Sample and reduce over the channels.

        Args:
            points_px: Finite pixels in the map. A batch of maps needs the same batch here; a
                single map is shared by all batches of points. Beyond the border a map goes on
                with its outermost pixels.
            reference: Descriptors to subtract; shared likewise.
        """
        is_shared = not self._batch and points_px.ndim == 3
        together = max(1, CACHED_NUMBERS // max(1, reference.numel()))
        if not is_shared or together >= len(points_px):
            return self._reduce(points_px, reference)
        # Many hypotheses: a few at a time, faster than through main memory.
        parts = [self._reduce(px, reference) for px in torch.split(points_px, together)]
        return Moments(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def _reduce(
        self, points_px: Float[Tensor, "*b n 2"], reference: Float[Tensor, "*m n c"]
    ) -> Moments:
        batch = points_px.shape[:-1]
        index, weight = self._plan(points_px.reshape(-1, 2), batch[-1])
        vectors = self._taps.sum_bags(self._rows, index, weight)
        if self._normalize:
            vectors = _unit_length(vectors)
        vectors.view(*batch, 3, self._rows.shape[-1]).select(-2, 0).sub_(reference)
        value = self._taps.num_value
        # Selected rather than indexed: the gradient is then summed in the same order every time.
        confidence = self._confidence.index_select(0, index[:, :value].reshape(-1))
        confidence = (confidence.view(-1, value) * weight[:, :value]).sum(-1)
        return Moments(*(part.view(batch) for part in (*_inner_products(vectors), confidence)))

    def _plan(
        self, px: Float[Tensor, "p 2"], points_per_map: int
    ) -> tuple[Int[Tensor, "p k"], Float[Tensor, "p k"]]:
        """Which pixels to add with which weights, for the three vectors in a row."""
        taps = self._taps
        corner = px.floor()
        weight = taps.weights((px - corner).to(self._rows.dtype).T)
        # Clamped before the cast: a point far outside must not wrap around.
        column, row = corner.clamp(-2, max(self._width, self._height)).int().T
        column = (column + taps.offsets).clamp(0, self._width - 1)
        row = (row + taps.offsets).clamp(0, self._height - 1) * self._width
        if self._batch:
            first = torch.arange(self._batch.numel(), dtype=row.dtype, device=row.device)
            row = row + (self._height * self._width) * first.repeat_interleave(points_per_map)
        index = column.index_select(0, taps.column) + row.index_select(0, taps.row)
        return index.T.contiguous(), weight


class _Taps:
    """The pixels that make up value (bag 0), d/dx (bag 1) and d/dy (bag 2), one bag a row.

    Inside, points are the last dimension: small last dimensions are several times slower.
    """

    def __init__(self, mode: Mode, like: Float[Tensor, "p c"]) -> None:
        polynomials = torch.tensor(POLYNOMIALS[mode], dtype=like.dtype, device=like.device)
        used = (polynomials != 0).any(0).tolist()
        taps: list[tuple[int, int, int, int]] = []
        starts = []
        # Where the weights of the value (0) or of the derivative (4) begin, along x and along y.
        for kind_x, kind_y in ((0, 0), (4, 0), (0, 4)):
            starts.append(len(taps))
            for row, column in itertools.product(range(4), range(4)):
                if used[kind_x + column] and used[kind_y + row]:
                    taps.append((column, row, kind_x + column, kind_y + row))
        columns = torch.tensor(taps, device=like.device).T.contiguous()
        self.column, self.row, self._weight_x, self._weight_y = columns
        self.num_value = starts[1]
        self.offsets = torch.arange(-1, 3, dtype=torch.int32, device=like.device)[:, None]
        self._starts = torch.tensor(starts, dtype=torch.int32, device=like.device)
        self._polynomials = polynomials[..., None, None]

    def weights(self, t: Float[Tensor, "2 p"]) -> Float[Tensor, "p k"]:
        """Weight of each pixel of each bag, at fractions of a pixel."""
        lower, axes = self._polynomials[:-1], self._polynomials[-1]
        for coefficients in lower.flip(0):
            axes = torch.addcmul(coefficients, axes, t)
        along_x, along_y = axes.unbind(1)
        along_x = along_x.index_select(0, self._weight_x)
        return (along_x * along_y.index_select(0, self._weight_y)).T.contiguous()

    def sum_bags(
        self, rows: Float[Tensor, "r c"], index: Int[Tensor, "p k"], weight: Float[Tensor, "p k"]
    ) -> Float[Tensor, "p 3 c"]:
        """Weighted sums of the rows of a map."""
        first = torch.arange(len(index), dtype=torch.int32, device=index.device) * index.shape[1]
        sums = functional.embedding_bag(
            index.view(-1),
            rows,
            (first[:, None] + self._starts).view(-1),
            per_sample_weights=weight.view(-1),
            mode="sum",
        )
        return sums.view(-1, 3, rows.shape[-1])


def _unit_length(vectors: Float[Tensor, "p 3 c"]) -> Float[Tensor, "p 3 c"]:
    """Value scaled to unit length, gradient by the chain rule: `(I - v v^T) G / |f|`."""
    vectors = vectors / vectors[:, :1].norm(dim=-1, keepdim=True).clamp(min=1e-12)
    value, slopes = vectors[:, :1], vectors[:, 1:]
    return torch.cat((value, slopes - (value * slopes).sum(-1, keepdim=True) * value), 1)


def _inner_products(vectors: Float[Tensor, "p 3 c"]) -> tuple[Float[Tensor, " p"], ...]:
    """`r.r, x.r, y.r, x.x, x.y, y.y`."""
    if vectors.shape[-1] >= MANY_CHANNELS:
        gram = (vectors @ vectors.mT).flatten(1).T
        return gram[0], gram[1], gram[2], gram[4], gram[5], gram[8]
    r, x, y = vectors.unbind(1)
    pairs = ((r, r), (x, r), (y, r), (x, x), (x, y), (y, y))
    return tuple((a * b).sum(-1) for a, b in pairs)
