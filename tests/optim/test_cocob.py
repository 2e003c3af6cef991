from typing import Any

import parameterfree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR

from optim import COCOB
from optim.reference import SlowCOCOB

PATHS: list[dict[str, Any]] = [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}]


@pytest.mark.parametrize("options", PATHS)
@pytest.mark.parametrize(("slope", "alpha"), [(1.0, 100.0), (-3e-4, 10.0)])
def test_constant_gradients_while_alpha_limits_the_bets(options: dict[str, Any], slope: float, alpha: float) -> None:
    # With g of one size s, L = s, G = t s, theta = t s, and while t + 1 <= alpha the divisor is alpha s². With x the
    # displacement along g, R_t = s (x_1 + ... + x_{t-1}) and x_t = t / alpha * (1 + x_1 + ... + x_{t-1}).
    start = 0.5
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = COCOB([w], alpha=alpha, **options)
    won = 0.0
    for t in range(1, int(alpha)):
        w.grad = torch.tensor(slope, dtype=torch.float64)
        optimizer.step()
        way = t / alpha * (1 + won)
        won += way
        assert w.item() == pytest.approx(start - way * (1 if slope > 0 else -1), rel=1e-12)


def test_constant_gradients_with_alpha_one() -> None:
    # The divisor is (t + 1) s² from the start: x_t = t / (t + 1) * (1 + x_1 + ... ), which soon doubles in each step.
    w = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = COCOB([w], alpha=1.0)
    ways = []
    for _ in range(3):
        w.grad = torch.tensor(-2.0, dtype=torch.float64)
        optimizer.step()
        ways.append(w.item())
    # 1/2; 2/3 * 3/2 = 1; 3/4 * 5/2 = 15/8
    assert ways == pytest.approx([0.5, 1.0, 1.875], rel=1e-12)


@pytest.mark.parametrize("options", PATHS)
def test_agrees_with_parameterfree(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in [(3, 4), (5,), ()]]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimizer, peer = (
        COCOB(ours, alpha=7, weight_decay=0.1, **options),
        parameterfree.COCOB(theirs, 7, weight_decay=0.1),
    )
    for _ in range(30):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = q.grad = torch.randn_like(p)
        optimizer.step()
        peer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("options", PATHS)
@pytest.mark.parametrize("exponent", [-100, -40, 40])
def test_the_scale_of_the_gradients_does_not_matter(options: dict[str, Any], exponent: int) -> None:
    results = []
    for scale in (1.0, 2.0**exponent):
        torch.manual_seed(0)
        w = nn.Parameter(torch.randn(50))
        optimizer = COCOB([w], **options)
        for _ in range(20):
            w.grad = torch.randn(50) * scale
            optimizer.step()
        results.append(w.detach())
    assert torch.equal(*results)


def test_elements_that_never_had_a_gradient_stay() -> None:
    w = nn.Parameter(torch.tensor([0.25, 0.25]))
    optimizer = COCOB([w])
    for _ in range(3):
        w.grad = torch.tensor([0.0, 1.0])
        optimizer.step()
    assert w[0].item() == 0.25
    assert w[1].item() < 0.25


def test_the_options_are_in_the_state_dict_and_the_state_is_five_tensors() -> None:
    w = nn.Parameter(torch.randn(3))
    w.grad = torch.randn(3)
    optimizer = COCOB([w], alpha=7, weight_decay=0.2)
    optimizer.step()
    saved = optimizer.state_dict()
    assert {"alpha": 7, "weight_decay": 0.2}.items() <= saved["param_groups"][0].items()
    assert len(saved["state"][0]) == 5
    other = COCOB([nn.Parameter(torch.zeros(3))])
    other.load_state_dict(saved)
    assert other.param_groups[0]["alpha"] == 7


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: StepLR(optimizer, 1),
        lambda optimizer: LambdaLR(optimizer, lambda step: 1.0),
        lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=9, cycle_momentum=False),
        ReduceLROnPlateau,
    ],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_scheduler_is_refused(schedule: Any, loaded: bool) -> None:
    optimizer = COCOB([nn.Parameter(torch.zeros(3))])
    if loaded:
        optimizer.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"no learning rate to schedule.*remove"):
        schedule(optimizer)


def test_step_sizes() -> None:
    w, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = COCOB([unused, w], alpha=10)
    assert optimizer.step_sizes().shape == (0,)
    w.grad = torch.tensor([2.0, 0.0])
    optimizer.step()
    # L / (L * 10 L) = 1 / 20 in the first element; nothing moves the second one.
    torch.testing.assert_close(optimizer.step_sizes(), torch.tensor([1 / 40]))


shapes = st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(shapes, st.booleans(), st.randoms(use_true_random=False))
@pytest.mark.parametrize("options", PATHS)
def test_any_shapes_and_strides(
    options: dict[str, Any], shapes: list[tuple[int, ...]], turned: bool, random: Any
) -> None:
    torch.manual_seed(random.randrange(1000))
    params = []
    for shape in shapes:
        p = torch.randn(shape[::-1], dtype=torch.float64)
        params.append(nn.Parameter(p.permute(list(reversed(range(p.ndim)))) if turned else p))
    twins = [SlowCOCOB(p, alpha=5) for p in params]
    expected = [p.detach().clone() for p in params]
    optimizer = COCOB(params, alpha=5, **options)
    for _ in range(3):
        for i, (p, twin) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.randn(p.shape, dtype=torch.float64) if random.random() < 0.7 else None
            expected[i] = expected[i] if p.grad is None else twin.step(p.grad)
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in params], expected, rtol=1e-10, atol=1e-12)


def test_tensors_too_large_for_the_cache() -> None:
    torch.manual_seed(0)
    results = []
    start, grads = torch.randn(8, 20, 30, 31), torch.randn(3, 8, 20, 30, 31)
    for options in ({}, {"foreach": False}):
        w = nn.Parameter(start.clone(memory_format=torch.channels_last))
        optimizer = COCOB([w], **options)
        for grad in grads:
            w.grad = grad  # not in the memory format of the weights
            optimizer.step()
        results.append(w.detach())
    assert torch.equal(*results)
