"""What the optimizer knows of a problem: a pose in, a 6x6 system and a cost out."""

from typing import NamedTuple, Protocol

import torch

from pixloc_core.geometry import Pose
from pixloc_core.shapes import Bool, Float, Int, Tensor

# Squared slope of the features, per square pixel, that would matter to nobody.
NEGLIGIBLE_SLOPE = 1e-12


class NormalEquations(NamedTuple):
    """A robust least-squares problem, linearized at a pose; all floats are float64.

    With the energy `E = 1/2 sum_i w_i rho(||r_i||^2)`, `g` is its gradient by the increment
    `xi = (v, w)` of the pose and `H` its Gauss-Newton matrix (docs/math.md, eq. 5.1, 5.2).

    Attributes:
        H: Gauss-Newton matrices, summed over the points.
        g: Gradients, summed over the points.
        cost: `2 E / normalizer`, a mean over the points that may be compared between poses.
        num_valid: Points that project into the image.
        normalizer: Weight that `cost` was divided by.
        motion: `delta^T motion delta` is the mean squared motion, in pixels of the map, of the
            valid points when the pose moves by `delta` (eq. 5.8).
    """

    H: Float[Tensor, "*b 6 6"]
    g: Float[Tensor, "*b 6"]
    cost: Float[Tensor, "*b"]
    num_valid: Int[Tensor, "*b"]
    normalizer: Float[Tensor, "*b"]
    motion: Float[Tensor, "*b 6 6"]

    def predicted_decrease(self, delta: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b"]:
        """By how much the quadratic model says that a step lowers `cost` (eq. 5.5)."""
        model = 2 * (self.g * delta).sum(-1) + quadratic_form(self.H, delta)
        return -model / self.normalizer

    def damping_floor(self) -> Float[Tensor, "*b 6"]:
        """Least amounts on the diagonal, for directions that the features do not see (eq. 5.4).

        As if each point had a slope of 1e-6 per pixel: unlike a constant it does not depend on
        the unit of length.
        """
        diagonal = self.motion.diagonal(dim1=-2, dim2=-1)
        return NEGLIGIBLE_SLOPE * self.num_valid[..., None] * diagonal

    def is_finite(self) -> Bool[Tensor, "*b"]:
        """Where all numbers can be worked with."""
        return torch.isfinite(self.H.sum((-2, -1)) + self.g.sum(-1) + self.cost)

    def where(self, mask: Bool[Tensor, "*b"], other: "NormalEquations") -> "NormalEquations":
        """These equations where the mask is set, those of `other` elsewhere."""
        merged = []
        for mine, its in zip(self, other, strict=True):
            shape = (*mask.shape, *(1,) * (mine.ndim - mask.ndim))
            merged.append(torch.where(mask.view(shape), mine, its))
        return NormalEquations(*merged)


class Cost(Protocol):
    """A least-squares problem in one pose per batch element.

    Attributes:
        is_shared: Whether all elements have the same problem, from different poses: then any of
            them may be left out.
    """

    @property
    def is_shared(self) -> bool:
        """See the class."""
        ...

    def linearize(self, pose: Pose) -> NormalEquations:
        """Cost and normal equations at poses of any batch shape that the problem allows."""
        ...


def quadratic_form(A: Float[Tensor, "*b d d"], x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """`x^T A x`."""
    return ((A @ x[..., None])[..., 0] * x).sum(-1)
