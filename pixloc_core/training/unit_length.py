"""Descriptors of unit length, with a gradient that costs a third of the composed one."""

from typing import Any

import torch

from pixloc_core.shapes import Float, Tensor

# As torch.nn.functional.normalize: shorter vectors keep their direction, not their length.
_SHORTEST = 1e-12


def unit_length(vectors: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
    """Vectors divided by their length; can be differentiated once.

    Whole maps are normalized in training, and there each pass over them is what costs.
    """
    result: Tensor = _UnitLength.apply(vectors)  # type: ignore[no-untyped-call]
    return result


class _UnitLength(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        inverse = vectors.norm(dim=-1, keepdim=True).clamp_(min=_SHORTEST).reciprocal_()
        unit: Tensor = vectors * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # The derivative of f / |f| is (I - u u^T) / |f| with the unit vector u.
        unit, inverse = ctx.saved_tensors
        along = (gradient * unit).sum(-1, keepdim=True)
        result: Tensor = torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)
        return result
