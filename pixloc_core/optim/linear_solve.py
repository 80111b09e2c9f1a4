"""Damped normal equations, solved for a batch where any element may be singular."""

import torch

from pixloc_core.shapes import Bool, Float, Tensor

REFERENCE_FLOOR = 1e-6
"""Smallest amount that PixLoc adds to the diagonal, whatever the unit of length."""


def solve_damped(
    H: Float[Tensor, "*b d d"],
    g: Float[Tensor, "*b d"],
    damping: Float[Tensor, "*#b #d"],
    active: Bool[Tensor, "*b"] | None = None,
    floor: Float[Tensor, "*b d"] | None = None,
) -> tuple[Float[Tensor, "*b d"], Bool[Tensor, "*b"]]:
    """Solve `(H + max(damping * diag(H), floor)) delta = -g` by Cholesky, without host sync.

    Multiplicative (Marquardt) damping makes the step independent of the units of the parameters:
    scaling columns of the Jacobian, as the reference can, changes nothing.

    Args:
        H: Gauss-Newton matrices; only the lower triangle is read.
        g: Gradients.
        damping: Factor per element, or per element and parameter.
        active: Elements to solve; the others get a zero step. All when None.
        floor: Smallest amounts added to the diagonal; `REFERENCE_FLOOR` when None.

    Returns:
        The steps, zero where there is none, and where a step was found. Gradients are finite for
        all elements.

    Source: docs/math.md (eq. 5.3).
    """
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    least = torch.full_like(diagonal, REFERENCE_FLOOR) if floor is None else floor
    damped = H + torch.diag_embed(torch.maximum(diagonal * damping, least))
    usable = torch.isfinite(damped.sum((-2, -1)) + g.sum(-1))
    if active is not None:
        usable = usable & active
    identity = torch.eye(H.shape[-1], dtype=H.dtype, device=H.device)
    damped = torch.where(usable[..., None, None], damped, identity)
    factor, failure = torch.linalg.cholesky_ex(damped)
    solved = usable & (failure == 0)
    if damped.requires_grad:
        # A factor that broke off half way has NaN gradients even where it is masked.
        safe = torch.where(solved[..., None, None], damped, identity)
        factor = torch.linalg.cholesky_ex(safe).L
    else:
        factor = torch.where(solved[..., None, None], factor, identity)
    right = torch.where(solved[..., None], g, torch.zeros_like(g))
    return -torch.cholesky_solve(right[..., None], factor).squeeze(-1), solved
