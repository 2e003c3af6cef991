"""Checks of the optimizers' kernels on a CPU by Triton's interpreter; prints a JSON object: the error of each check."""

import json
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import pytest
import torch
from torch import Tensor, nn

from optim import COCOB, LAMB, SAM, MovingAverage, _table
from optim.reference import SlowCOCOB, SlowLAMB, SlowSAM

_table.DEVICES.add("cpu")
_table.CHUNK = 2048  # so that small tensors have several
warnings.filterwarnings("ignore", module="triton")

SIZES: list[tuple[int, ...]] = [(1,), (7,), (31, 33), (1025,), (0,), (), (3, 0), (2500,)]


def tensors() -> list[Tensor]:
    torch.manual_seed(0)
    odd = [
        torch.randn(6, 3, 5, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(6, 5).t(),
        torch.randn(1024)[1:],  # not at a multiple of 16 bytes
        torch.randn(5, 12)[:, ::2],  # with gaps: no kernel steps it
    ]
    return [*(torch.randn(size) for size in SIZES), *odd]


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours.detach().double(), theirs.double(), rtol=tolerance, atol=tolerance)


def parameters(values: list[Tensor], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(value.detach().clone().to(dtype)) for value in values]


def follows(make: Callable[..., Any], twin_of: Callable[..., Any], steps: int = 2, **options: Any) -> Any:
    """Compare steps with the slow twins; the last one leaves some gradients out."""
    params = parameters(tensors())
    twins, optimizer = [twin_of(p) for p in params], make(params, **options)
    for step in range(steps):
        for i, (p, twin) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.randn(p.shape) if step == 0 or i % 3 else None
            if p.grad is not None:
                twin.step(p.grad)
        optimizer.step()
    close(
        params,
        [torch.as_tensor(twin.w, dtype=torch.float64).reshape(p.shape) for p, twin in zip(params, twins, strict=True)],
    )
    assert optimizer._plans
    assert all(plan.parts for plan in optimizer._plans.values())
    return optimizer


def lamb() -> None:
    optimizer = follows(LAMB, SlowLAMB)
    counts = [state["step"].item() for state in optimizer.state.values()]
    assert counts == [2.0 if i % 3 else 1.0 for i in range(len(counts))], counts
    adapted = [p for p in optimizer.param_groups[0]["params"] if p.ndim > 1 and p.grad is not None]
    assert len(optimizer.trust_ratios()) == len(adapted) == 3


def lamb_with_options() -> None:
    options: dict[str, Any] = {
        "betas": (0.0, 0.9), "eps": 0, "weight_decay": 0, "bias_correction": False, "norm_bounds": (0.5, 2.0),
        "exclude_1d": False, "maximize": True,
    }  # fmt: skip
    follows(LAMB, lambda p: SlowLAMB(p, lr=0.125, **options), lr=torch.tensor(0.125), **options)


def lamb_of_many_steps() -> None:
    w = torch.randn(3, 4)
    twin, params = SlowLAMB(w, lr=0.01), parameters([w])
    optimizer = LAMB(params, lr=0.01, capturable=True)
    for _ in range(30):
        params[0].grad = torch.randn(3, 4)
        twin.step(params[0].grad)
        optimizer.step()
    close(params, [twin.w])


def cocob() -> None:
    follows(COCOB, SlowCOCOB)
    follows(
        COCOB,
        lambda p: SlowCOCOB(p, alpha=3, weight_decay=0.1, maximize=True),
        alpha=3,
        weight_decay=0.1,
        maximize=True,
        fused=True,
    )


def narrow_types() -> None:
    """The state has the type of the weights; a step is one of float32, rounded. float16 has no kernels."""
    for cls, option in ((LAMB, {"lr": 0.1}), (COCOB, {"alpha": 2})):
        narrow = parameters(tensors()[:4], torch.bfloat16)
        wide = parameters([p.detach().float() for p in narrow])
        for p, q in zip(narrow, wide, strict=True):
            p.grad = torch.randn(p.shape).bfloat16()
            q.grad = p.grad.float()
        cls(narrow, **option).step()
        cls(wide, **option).step()
        close(narrow, [q.detach().bfloat16() for q in wide], 1e-2)
    half = parameters(tensors()[:4], torch.float16)
    for p in half:
        p.grad = torch.full_like(p, 0.001)  # whose square, times 1 - beta2, is 0 in float16
    LAMB(half, lr=0.1, exclude_1d=False).step()
    assert all(p.isfinite().all() for p in half)


def gradients_of_another_layout() -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        params = parameters([torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)])
        optimizer = LAMB(params)
        params[0].grad = torch.randn(4, 3, 5, 5).contiguous(memory_format=layout)
        optimizer.step()
        results.append(params[0].detach())
    assert torch.equal(*results)


def groups_that_change() -> None:
    """An option, a state or a weight that is replaced takes effect in the next step."""
    w = tensors()[2]
    twin, params = SlowLAMB(w, lr=0.1), parameters([w])
    optimizer = LAMB(params, lr=0.1)
    for change in range(4):
        group, state = optimizer.param_groups[0], optimizer.state[params[0]]
        if change == 1:
            group["lr"] = twin.lr = 0.05
        elif change == 2:
            state["exp_avg"] = state["exp_avg"].clone().mul_(2)
            twin.m = twin.m * 2
        elif change == 3:
            params[0].data = params[0].data.clone().add_(1)
            twin.w = twin.w + 1
        params[0].grad = torch.randn_like(params[0])
        twin.step(params[0].grad)
        optimizer.step()
    close(params, [twin.w])


def autograd_notices() -> None:
    for cls in (LAMB, COCOB):
        params = parameters(tensors()[2:3])
        loss = params[0].square().sum()
        params[0].grad = torch.ones_like(params[0])
        optimizer = cls(params)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def loss_of(weights: Any) -> Tensor:
    return sum((w.sin() * w).sum() for w in weights)


def sam() -> None:
    values = [t for t in tensors()[:-1] if t.numel()]
    for adaptive in (False, True):
        params = parameters(values)
        twin = SlowSAM(values, loss_of, lr=0.1, rho=0.5, eta=0.01 if adaptive else None)
        groups = [{"params": params[:3]}, {"params": params[3:]}]
        optimizer = SAM(groups, torch.optim.SGD, lr=0.1, momentum=0.9, rho=0.5, adaptive=adaptive)

        def closure(params: Any = params, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(params)
            loss.backward()
            return loss

        for _ in range(2):
            first, second = twin.step()
            loss = optimizer.step(closure)
            close([loss, optimizer.sharpness], [first, second - first], 1e-4)
        close(params, twin.weights)
        assert optimizer._progress._climb is not None


def sam_maximizes() -> None:
    results = []
    for sign in (1, -1):
        params = parameters(tensors()[:3])
        optimizer = SAM(params, torch.optim.SGD, lr=0.1, maximize=sign < 0)
        for p in params:
            p.grad = sign * p.detach().cos()
        optimizer.first_step()
        results.append([p.detach().clone() for p in params])
    close(*results)


def sam_skips() -> None:
    """A gradient that is not finite leaves the weights as they are, whether or not the host waits to know it."""
    for wait in (True, False):
        params = parameters(tensors()[:4])
        before = [p.detach().clone() for p in params]
        optimizer = SAM(params, torch.optim.SGD, lr=0.1)
        for bad in (float("nan"), float("inf")):
            for p in params:
                p.grad = torch.ones_like(p)
            params[2].grad.view(-1)[3] = bad  # type: ignore[union-attr]
            skipped = optimizer.skipped_steps
            assert optimizer.first_step(wait=wait) is not wait
            assert all(torch.equal(p, w) for p, w in zip(params, before, strict=True))
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.second_step()
            assert all(torch.equal(p, w) for p, w in zip(params, before, strict=True))
            assert (optimizer.skipped_steps, optimizer.is_perturbed) == (skipped + 1, False)
        assert optimizer.first_step(wait=wait)
        assert not torch.equal(params[2], before[2])
        optimizer.restore()
        assert torch.equal(params[2], before[2])
        assert optimizer.first_step(wait=wait)
        optimizer.second_step()
        assert not torch.equal(params[2], before[2])
        assert optimizer.skipped_steps == 2


def moving_average() -> None:
    values = tensors()
    averages = [torch.randn_like(value) for value in values] + [torch.tensor(3), torch.randn(9).bfloat16()]
    values = [*values, torch.tensor(5), torch.randn(9)]
    expected = [a.double() * 0.75 + 0.25 * x.double() for a, x in zip(averages, values, strict=True)]
    average = MovingAverage(0.75)
    average(averages, values)
    close(averages[:-2], expected[:-2], 1e-6)
    close(averages[-1:], expected[-1:], 1e-2)
    assert averages[-2].item() == 5


CHECKS = [
    lamb, lamb_with_options, lamb_of_many_steps, cocob, narrow_types, gradients_of_another_layout, groups_that_change,
    autograd_notices, sam, sam_maximizes, sam_skips, moving_average,
]  # fmt: skip

if __name__ == "__main__":
    errors = {}
    for check in CHECKS:
        errors[check.__name__] = ""
        try:
            check()
        except Exception:
            errors[check.__name__] = traceback.format_exc()
    print(json.dumps(errors))
