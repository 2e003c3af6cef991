"""Checks of the activations' kernels on a CPU by Triton's interpreter; prints the error of each check as JSON."""

import json
import math
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import torch
from torch import Tensor

from activations import SPOCU, _elementwise
from activations.functional import hardshrink, spocu

warnings.filterwarnings("ignore")
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "spocu": spocu,
    "spocu, c=1": lambda x: spocu(x, c=1.0),
    "hardshrink": lambda x: hardshrink(x, -0.3, 0.7),
}
SHAPES: list[tuple[int, ...]] = [(), (7,), (2047,), (4097,), (0,), (3, 5, 20, 7)]


def with_kernels(kernels: bool, function: Callable[[], Any]) -> Any:
    """Return what a function computes with the kernels, or without them."""
    _elementwise._KERNEL_DEVICES = {"cpu"} if kernels else set()
    return function()


def derivatives(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    (first,) = torch.autograd.grad(y, x, grad, create_graph=True)
    second = torch.autograd.grad(first.float().square().sum(), x)[0] if first.requires_grad else torch.zeros(())
    with torch.autograd.forward_ad.dual_level():
        dual = function(torch.autograd.forward_ad.make_dual(x.detach(), grad))
        tangent = torch.autograd.forward_ad.unpack_dual(dual).tangent
    return [y.detach(), first.detach(), second, tangent]


def fixed() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for shape in SHAPES:
            x, grad = (torch.randn(shape).mul(2).to(dtype) for _ in range(2))
            if len(shape) == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            for name, function in FUNCTIONS.items():
                ours, theirs = (with_kernels(k, lambda f=function: derivatives(f, x, grad)) for k in (True, False))  # noqa: B023
                for a, b in zip(ours, theirs, strict=True):
                    assert a.stride() == b.stride(), (name, shape)
                    eps, scale = torch.finfo(dtype).eps, b.abs().max().item() if b.numel() else 0.0
                    torch.testing.assert_close(a, b, rtol=8 * eps, atol=4 * eps * scale)


def special_values() -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, -0.0, -0.3, 0.7, 1e30, -1e30])
    grad = torch.full_like(x, 2.0)
    for name, function in FUNCTIONS.items():
        ours, theirs = (with_kernels(k, lambda f=function: derivatives(f, x, grad)[:2]) for k in (True, False))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True, msg=name)
    for bounds in ((0.0, 0.0), (-1.0, -1.0), (-0.3, 0.7)):  # compared as rounded to bfloat16
        x = torch.tensor([*bounds, 0.0, -1.0]).bfloat16()
        ours, theirs = (with_kernels(k, lambda x=x, b=bounds: hardshrink(x, *b)) for k in (True, False))
        assert torch.equal(ours, theirs)


def trained() -> None:
    torch.manual_seed(0)
    for c in (1.0, math.inf):
        for dtype in (torch.float32, torch.bfloat16):
            for shape in ((), (5,), (0,), (2049,), (3, 5, 20, 27)):
                x, grad = (torch.randn(shape).mul(2).to(dtype) for _ in range(2))
                results = []
                for kernels in (True, False):
                    module = SPOCU(c=c, trainable=True)
                    # Without kernels in float64, which rounds nothing between.
                    module, leaf = (module, x.clone()) if kernels else (module.double(), x.double())
                    y = with_kernels(kernels, lambda m=module, leaf=leaf: m(leaf.requires_grad_()))
                    y.backward(grad.to(y.dtype))
                    results.append([y.detach(), leaf.grad, *(p.grad for p in module.parameters())])
                for i, (a, b) in enumerate(zip(*results, strict=True)):
                    tolerance = 0.01 if dtype is torch.bfloat16 and i < 2 else 1e-4
                    torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


CHECKS = [fixed, special_values, trained]

if __name__ == "__main__":
    errors = {}
    for check in CHECKS:
        errors[check.__name__] = ""
        try:
            check()
        except Exception:
            errors[check.__name__] = traceback.format_exc()
    print(json.dumps(errors))
