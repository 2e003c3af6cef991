"""Hardshrink against torch's and against TensorFlow Addons' definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from activations import Hardshrink
from activations.functional import hardshrink

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("bound", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [1000, 20_000])
def test_equals_torch_for_symmetric_bounds(dtype, bound, size):
    torch.manual_seed(0)
    special = torch.tensor([-bound, bound, 0.0, -0.0, math.inf, -math.inf, math.nan])
    x = torch.cat([special, torch.randn(size)]).to(dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = Hardshrink(-bound, bound)(ours), nn.Hardshrink(bound)(theirs)
    grad = torch.randn(len(x)).to(dtype)
    y.backward(grad)
    z.backward(grad)
    torch.testing.assert_close(y, z, rtol=0, atol=0, equal_nan=True)
    # For NaN torch returns 0 or the gradient, depending on the position in the vector register.
    torch.testing.assert_close(ours.grad[x == x], theirs.grad[x == x], rtol=0, atol=0)
    assert not (y.signbit() & (y == 0)).any()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    bounds=st.tuples(*[st.floats(-5, 5, width=32)] * 2).map(sorted),
    values=st.lists(st.floats(-6, 6, width=32), min_size=1),
)
def test_definition_for_any_bounds(bounds, values):
    lower, upper = bounds
    values = [*values, lower, upper]
    x = torch.tensor(values, requires_grad=True)
    y = hardshrink(x, lower, upper)
    y.sum().backward()
    assert y.tolist() == [0.0 if lower <= v <= upper else v for v in values]
    assert x.grad.tolist() == [0.0 if lower <= v <= upper else 1.0 for v in values]
    assert all(math.copysign(1, o) == 1 for v, o in zip(values, y.tolist(), strict=True) if lower <= v <= upper)


def test_infinite_bounds_and_nan():
    x = torch.tensor([-math.inf, -1.0, 3.0, math.nan])
    assert hardshrink(x, -math.inf, 1.0)[:3].tolist() == [0.0, 0.0, 3.0]
    assert hardshrink(x, -math.inf, math.inf)[3].isnan()


@pytest.mark.parametrize("bounds", [(0.5, -0.5), (math.nan, 1.0), (0.0, math.nan)])
def test_bounds_in_the_wrong_order_are_refused(bounds):
    with pytest.raises(ValueError, match="lower must not be greater than upper, found lower="):
        Hardshrink(*bounds)
    with pytest.raises(ValueError, match="lower must not be greater than upper"):
        hardshrink(torch.ones(1), *bounds)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_traced_bounds_are_compared_in_the_type_of_the_input(dtype):
    x = torch.tensor([0.7, -0.3], dtype=torch.float64).to(dtype)
    compiled = torch.compile(Hardshrink(-0.3, 0.7), backend="aot_eager", fullgraph=True)
    assert compiled(x).tolist() == Hardshrink(-0.3, 0.7)(x).tolist() == [0.0, 0.0]


def test_gradcheck_of_hardshrink():
    x = torch.tensor([-3.0, -0.9, -0.2, 0.1, 0.69, 0.8, 2.0], dtype=torch.float64, requires_grad=True)
    f = Hardshrink(-0.3, 0.7)
    assert torch.autograd.gradcheck(f, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, x, check_batched_grad=True)
