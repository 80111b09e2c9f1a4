"""Sampling of maps at sub-pixel points, with spatial gradient (docs/math.md, section 3).

Maps are channels-last and contiguous, so that a pixel is one contiguous read. Pixel (0, 0) is the
centre of the top-left pixel. Three modes:

    linear           bilinear value; gradient by central differences of samples one pixel apart,
                     zero padding outside the map, as in PixLoc (eq. 3.1, 3.2)
    linear_analytic  bilinear value and its own derivative, from four pixels (eq. 3.1, 3.3)
    cubic            cubic convolution with a = -1/2 and its derivative; pixels outside the map
                     repeat the border (eq. 3.4)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from pixloc_core.errors import ConfigError, ShapeError
from pixloc_core.geometry.tensor_backed import broadcast_batch
from pixloc_core.shapes import Bool, Float, Int, Tensor

Mode = Literal["linear", "linear_analytic", "cubic"]
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Stencil:
    """Which pixels a sample is made of and with which weights, for maps of one size.

    One stencil serves all maps of that size: features and their confidence, for instance.
    Indices count pixels row by row. `k` is 4 or 16; `g` is 4, 8 or 16.
    """

    index: Int[Tensor, "*m n k"]
    weight: Float[Tensor, "*m n k"]
    gradient_index: Int[Tensor, "2 *m n g"] | None = None
    gradient_weight: Float[Tensor, "2 *m n g"] | None = None

    def value(self, map_: Float[Tensor, "*#m h w c"]) -> Float[Tensor, "*#m n c"]:
        """Values of a map."""
        return weighted_rows(map_, self.index, self.weight)

    def gradient(self, map_: Float[Tensor, "*#m h w c"]) -> Float[Tensor, "2 *#m n c"]:
        """Derivatives of a map by x and by y, one after the other.

        Raises:
            ShapeError: If the stencil was made without gradient.
        """
        if self.gradient_index is None or self.gradient_weight is None:
            raise ShapeError("this stencil has no gradient, expected one made with gradient=True")
        return weighted_rows(map_, self.gradient_index, self.gradient_weight)


def sample(
    map_: Float[Tensor, "*#m h w c"], points: Float[Tensor, "*#m n 2"], mode: Mode = "linear"
) -> Float[Tensor, "*#m n c"]:
    """Values of a map at points.

    Args:
        map_: One map, or a batch that broadcasts with that of the points.
        points: x, y in pixels of the map. Points outside give finite values; so does NaN.
        mode: See the module.

    Returns:
        Values in the number type of the map, or float32 for maps in half precision.
    """
    return make_stencil(points, map_, mode, gradient=False).value(map_)


def sample_with_gradient(
    map_: Float[Tensor, "*#m h w c"], points: Float[Tensor, "*#m n 2"], mode: Mode = "linear"
) -> tuple[Float[Tensor, "*#m n c"], Float[Tensor, "*#m n c 2"]]:
    """Values of a map at points and their derivative by the point; arguments as `sample`.

    The two parts of the gradient lie one after the other: `unbind(-1)` gives contiguous tensors.
    """
    stencil = make_stencil(points, map_, mode)
    return stencil.value(map_), stencil.gradient(map_).movedim(0, -1)


def inside(
    points: Float[Tensor, "*#m n 2"], size: Sequence[int | float | Tensor] | Tensor, pad: float = 0
) -> Bool[Tensor, "*#m n"]:
    """Whether points keep a distance to the border: `pad <= p <= size - 1 - pad`.

    Args:
        points: x, y in pixels.
        size: Width and height of the map.
        pad: Distance in pixels.
    """
    x, y = points.unbind(-1)
    width, height = size
    return (x >= pad) & (x <= width - 1 - pad) & (y >= pad) & (y <= height - 1 - pad)


def make_stencil(
    points: Float[Tensor, "*#m n 2"],
    map_: Float[Tensor, "*#m h w c"],
    mode: Mode = "linear",
    *,
    gradient: bool = True,
) -> Stencil:
    """Pixels and weights to sample maps at points.

    Args:
        points: x, y in pixels of the map.
        map_: Map, of which only the shape and the number type are used.
        mode: See the module.
        gradient: Whether the gradient will be asked for.

    Raises:
        ShapeError: If the shapes of points and map do not fit.
        ConfigError: If there is no such mode.
    """
    if points.shape[-1] != 2 or map_.ndim < 3:
        raise ShapeError(
            f"points and map have shapes {tuple(points.shape)} and {tuple(map_.shape)}, "
            "expected (*m, n, 2) and (*m, h, w, c)"
        )
    if mode not in _AXIS:
        raise ConfigError(f"interpolation mode is {mode!r}, expected one of {', '.join(_AXIS)}")
    *batch, height, width, _ = map_.shape
    if batch:
        common = broadcast_batch(points[..., 0], map_[..., 0, 0])
        points = points.expand(*common, *points.shape[-2:])
    x, y = points.unbind(-1)
    columns, wx, dx = _AXIS[mode](x, width, map_.dtype, gradient)
    rows, wy, dy = _AXIS[mode](y, height, map_.dtype, gradient)
    rows = rows * width
    if batch:
        first = torch.arange(math.prod(batch), dtype=rows.dtype, device=rows.device)
        rows = rows + (height * width) * first.reshape(*batch, 1)
    # The taps of the value are the middle ones of those of the derivative.
    value_columns, value_rows = _middle(columns, len(wx)), _middle(rows, len(wy))
    index, weight = _combine(value_rows, value_columns, wy, wx)
    if not gradient:
        return Stencil(index, weight)
    along_x = _combine(value_rows, columns, wy, dx)
    along_y = _combine(rows, value_columns, dy, wx)
    return Stencil(
        index, weight, torch.stack((along_x[0], along_y[0])), torch.stack((along_x[1], along_y[1]))
    )


def weighted_rows(
    map_: Float[Tensor, "*#m h w c"], index: Int[Tensor, "*p k"], weight: Float[Tensor, "*p k"]
) -> Float[Tensor, "*p c"]:
    """Weighted sums of k pixels of a map, without storing the pixels.

    Half-precision maps are summed in float32.
    """
    table = map_.reshape(-1, map_.shape[-1])
    flat_index, flat_weight = index.flatten(0, -2), weight.flatten(0, -2)
    if table.dtype in _HALF:
        pixels = functional.embedding(flat_index, table).float()
        sums = (flat_weight[:, None, :] @ pixels)[:, 0]
    else:
        sums = functional.embedding_bag(
            flat_index, table, per_sample_weights=flat_weight.to(table.dtype), mode="sum"
        )
    return sums.reshape(*index.shape[:-1], table.shape[-1])


# Taps come first, (k, *m, n), until the end: a small last dimension is several times slower.


def _taps(
    x: Tensor, size: int, dtype: torch.dtype, offsets: range
) -> tuple[Tensor, Tensor, Tensor]:
    """Clamped pixel numbers around x, whether they exist, and the fraction of x."""
    # PixLoc keeps points this near before it pads with zeros; NaN goes to the far end.
    limit = 0.5 * (size - 1)
    x = x.nan_to_num(nan=-limit).clamp(-limit, 3 * limit)
    base = x.floor()
    fraction = (x - base).to(torch.float32 if dtype in _HALF else dtype)
    steps = torch.arange(offsets.start, offsets.stop, dtype=torch.int32, device=x.device)
    taps = base.to(torch.int32) + steps.reshape(-1, *[1] * x.ndim)
    clamped = taps.clamp(0, size - 1)
    return clamped, clamped == taps, fraction


def _linear_axis(
    x: Tensor, size: int, dtype: torch.dtype, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    taps, exists, f = _taps(x, size, dtype, range(-1, 3) if gradient else range(2))
    ramp = torch.stack((1 - f, f))
    value = ramp * _middle(exists, 2)
    return taps, value, torch.cat((-0.5 * ramp, 0.5 * ramp)) * exists if gradient else value


def _linear_analytic_axis(
    x: Tensor, size: int, dtype: torch.dtype, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    taps, exists, f = _taps(x, size, dtype, range(2))
    one = torch.ones_like(f)
    return taps, torch.stack((1 - f, f)) * exists, torch.stack((-one, one)) * exists


def _cubic_axis(
    x: Tensor, size: int, dtype: torch.dtype, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    taps, _, f = _taps(x, size, dtype, range(-1, 3))
    f2 = f * f
    f3 = f2 * f
    value = (-f + 2 * f2 - f3, 2 - 5 * f2 + 3 * f3, f + 4 * f2 - 3 * f3, f3 - f2)
    slope = (-1 + 4 * f - 3 * f2, 9 * f2 - 10 * f, 1 + 8 * f - 9 * f2, 3 * f2 - 2 * f)
    return taps, 0.5 * torch.stack(value), 0.5 * torch.stack(slope)


_AXIS = {"linear": _linear_axis, "linear_analytic": _linear_analytic_axis, "cubic": _cubic_axis}


def _middle(taps: Tensor, count: int) -> Tensor:
    skip = (len(taps) - count) // 2
    return taps[skip : skip + count]


def _combine(
    rows: Tensor, columns: Tensor, row_weight: Tensor, column_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """All pairs of rows and columns: pixel numbers and weights `(*m, n, k)`."""
    index = (rows[:, None] + columns).flatten(0, 1)
    weight = (row_weight[:, None] * column_weight).flatten(0, 1)
    return index.movedim(0, -1), weight.movedim(0, -1)
