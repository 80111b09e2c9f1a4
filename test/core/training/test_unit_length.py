"""Unit vectors against the composition of PyTorch's own operations."""

import torch
from torch.nn.functional import normalize

from pixloc_core.training.unit_length import unit_length


def test_value_and_gradient_are_those_of_normalize() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 4, 5, 7, generator=generator, dtype=torch.float64)
    weight = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
    gradients = []
    for function in (unit_length, lambda x: normalize(x, dim=-1)):
        leaf = vectors.clone().requires_grad_()
        (function(leaf) * weight).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(unit_length(vectors), normalize(vectors, dim=-1))
    torch.testing.assert_close(*gradients)


def test_a_vector_of_zeros_stays_one_and_has_a_finite_gradient() -> None:
    leaf = torch.zeros(2, 3, requires_grad=True)
    result = unit_length(leaf)
    result.sum().backward()
    assert torch.equal(result, torch.zeros(2, 3))
    assert leaf.grad is not None
    assert bool(torch.isfinite(leaf.grad).all())


def test_gradcheck() -> None:
    vectors = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_length, (vectors,))
