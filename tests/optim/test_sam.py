from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from optim import LAMB, SAM
from optim.reference import SlowSAM

CURVATURE = torch.tensor([1.0, 10.0], dtype=torch.float64)


def quadratic(w: Sequence[Tensor]) -> Tensor:
    return sum((0.5 * CURVATURE * x**2).sum() for x in w)  # type: ignore[return-value]


def closure_of(optimizer: Optimizer, params: Sequence[nn.Parameter], calls: list[Tensor] | None = None) -> Any:
    def closure() -> Tensor:
        if calls is not None:
            calls.append(torch.stack([p.detach().clone() for p in params]))
        optimizer.zero_grad()
        loss = quadratic(params)
        loss.backward()
        return loss

    return closure


def points() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in ([3.0, -1.0], [0.5, 0.25])]


@pytest.mark.parametrize("eta", [None, 0.0, 0.01])
def test_one_step_on_a_quadratic(eta: float | None) -> None:
    # f = (x² + 10 y²) / 2 has the gradient D w with D = diag(1, 10); SAM's is D (w + rho T² D w / |T D w|).
    w = nn.Parameter(torch.tensor([3.0, -1.0], dtype=torch.float64))
    options: dict[str, Any] = {} if eta is None else {"adaptive": True, "eta": eta}
    optimizer = SAM([w], partial(SGD, lr=0.1), rho=0.5, **options)
    loss = optimizer.step(closure_of(optimizer, [w]))
    t = [1.0, 1.0] if eta is None else [3.0 + eta, 1.0 + eta]
    length = ((t[0] * 3.0) ** 2 + (t[1] * 10.0) ** 2) ** 0.5
    x, y = 3.0 + 0.5 * t[0] ** 2 * 3.0 / length, -1.0 - 0.5 * t[1] ** 2 * 10.0 / length
    assert loss.item() == 9.5
    assert w.tolist() == pytest.approx([3.0 - 0.1 * x, -1.0 + 0.1 * 10 * -y], rel=1e-12)
    assert optimizer.sharpness is not None
    assert optimizer.sharpness.item() == pytest.approx((x**2 + 10 * y**2) / 2 - 9.5, rel=1e-12)


@pytest.mark.parametrize("eta", [None, 0.05])
def test_agrees_with_the_slow_twin(eta: float | None) -> None:
    params = points()
    twin = SlowSAM(params, quadratic, lr=0.01, rho=0.3, eta=eta)
    options: dict[str, Any] = {} if eta is None else {"adaptive": True, "eta": eta}
    # In two groups, since the norm is over both.
    optimizer = SAM([{"params": [p]} for p in params], partial(SGD, lr=0.01, momentum=0.9), rho=0.3, **options)
    for _ in range(20):
        loss = optimizer.step(closure_of(optimizer, params))
        first, second = twin.step()
        torch.testing.assert_close(loss.detach(), first)
        torch.testing.assert_close(optimizer.sharpness, second - first)
    torch.testing.assert_close([p.detach() for p in params], twin.weights)


def test_restored_weights_are_bit_for_bit_those_before() -> None:
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(1000))
    before = w.detach().clone()
    optimizer = SAM([w], rho=1e6)  # subtracting so large a perturbation would lose every digit
    w.grad = torch.randn(1000)
    optimizer.first_step()
    assert not torch.equal(w, before)
    optimizer.restore()
    assert torch.equal(w, before)


def test_the_closure_is_called_at_both_points() -> None:
    params, calls = points(), list[Tensor]()
    optimizer = SAM(params, rho=0.5)
    optimizer.step(closure_of(optimizer, params, calls))
    assert len(calls) == 2
    assert (calls[1] - calls[0]).norm().item() == pytest.approx(0.5)


def test_a_closure_that_does_not_clear_the_gradients() -> None:
    results = []
    for clears in (True, False):
        params = points()
        optimizer = SAM(params, partial(SGD, lr=0.1))

        def closure(clears: bool = clears, params: Any = params, optimizer: Any = optimizer) -> Tensor:
            if clears:
                optimizer.zero_grad()
            loss = quadratic(params)
            loss.backward()
            return loss

        optimizer.step(closure)
        results.append(torch.stack([p.detach() for p in params]))
    assert torch.equal(*results)


def test_the_hand_written_loop_is_the_same_as_step() -> None:
    params, others = points(), points()
    optimizer, by_hand = SAM(params), SAM(others)
    backward = closure_of(by_hand, others)
    for _ in range(3):
        optimizer.step(closure_of(optimizer, params))
        backward()
        assert by_hand.first_step()
        assert by_hand.is_perturbed
        backward()
        by_hand.second_step()
        assert not by_hand.is_perturbed
    torch.testing.assert_close(others, params, rtol=0, atol=0)


def test_calls_out_of_order() -> None:
    params = points()
    optimizer = SAM(params)
    for wrong in (optimizer.second_step, optimizer.restore):
        with pytest.raises(RuntimeError, match="first_step"):
            wrong()
    closure_of(optimizer, params)()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="twice"):
        optimizer.first_step()
    with pytest.raises(ValueError, match="closure"):
        optimizer.step()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_skips_the_step(value: float) -> None:
    params = points()
    optimizer = SAM(params)
    before = [p.detach().clone() for p in params]

    def closure() -> Tensor:
        for p in params:
            p.grad = torch.ones_like(p)
        params[1].grad[0] = value  # type: ignore[index]
        return torch.tensor(value)

    optimizer.step(closure)
    assert optimizer.skipped_steps == 1
    assert not optimizer.is_perturbed
    assert optimizer.sharpness is None
    assert not optimizer.state
    torch.testing.assert_close([p.detach() for p in params], before, rtol=0, atol=0)
    other = SAM(points())
    other.load_state_dict(optimizer.state_dict())
    assert other.skipped_steps == 1


def test_a_gradient_of_zero_perturbs_nothing() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = SAM([w], partial(SGD, lr=0.1))

    def closure() -> Tensor:
        w.grad = torch.zeros(2)
        return torch.tensor(1.0)

    optimizer.step(closure)
    assert torch.equal(w, torch.ones(2))
    assert optimizer.skipped_steps == 0


def test_an_error_in_the_second_pass_leaves_the_weights_where_they_were() -> None:
    params, calls = points(), list[Tensor]()
    before = torch.stack([p.detach().clone() for p in params])
    optimizer = SAM(params)
    backward = closure_of(optimizer, params, calls)

    def closure() -> Tensor:
        if len(calls) == 1:
            raise KeyboardInterrupt
        return backward()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert torch.equal(torch.stack([p.detach() for p in params]), before)
    assert not optimizer.is_perturbed


def test_groups_have_their_own_radius() -> None:
    params = points()
    optimizer = SAM([{"params": [params[0]], "rho": 0.0}, {"params": [params[1]]}], rho=0.5)
    before = torch.stack([p.detach().clone() for p in params])
    grads = [CURVATURE * p for p in before]
    closure_of(optimizer, params)()
    optimizer.first_step()
    moved = torch.stack([p.detach() for p in params]) - before
    assert torch.equal(moved[0], torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(moved[1], 0.5 * grads[1] / torch.stack(grads).norm())


@pytest.mark.parametrize("on_the_base", [True, False])
def test_a_scheduler_works_on_either(on_the_base: bool) -> None:
    params = points()
    optimizer = SAM(params, partial(SGD, lr=1.0))
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler = StepLR(optimizer.base_optimizer if on_the_base else optimizer, 1, gamma=0.5)
    optimizer.step(closure_of(optimizer, params))
    scheduler.step()
    assert optimizer.param_groups is optimizer.base_optimizer.param_groups
    assert optimizer.state is optimizer.base_optimizer.state
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]


@pytest.mark.filterwarnings("error")
def test_a_scheduler_does_not_warn_in_a_hand_written_loop() -> None:
    params = points()
    optimizer = SAM(params)
    scheduler = StepLR(optimizer, 1)
    closure_of(optimizer, params)()
    optimizer.first_step()
    optimizer.second_step()
    scheduler.step()


def test_the_default_base_is_sgd_with_momentum_and_any_factory_can_be_given() -> None:
    base = SAM(points()).base_optimizer
    assert isinstance(base, SGD)
    assert base.param_groups[0]["momentum"] == 0.9
    assert isinstance(SAM(points(), LAMB).base_optimizer, LAMB)
    assert SAM([dict[str, Any]({"params": points(), "lr": 0.7})], Adam).base_optimizer.param_groups[0]["lr"] == 0.7
    with pytest.raises(ValueError, match="base_optimizer"):
        SAM(points(), lambda params: None)  # type: ignore[arg-type,return-value]


def test_memory_is_one_copy_of_the_parameters() -> None:
    params = points()
    optimizer = SAM(params, partial(SGD, lr=0.1))
    optimizer.step(closure_of(optimizer, params))
    optimizer.step(closure_of(optimizer, params))
    assert sum(kept.numel() for kept in optimizer._progress._copies.values()) == sum(p.numel() for p in params)
    assert not optimizer.__getstate__()["_progress"]._copies


def test_a_step_that_another_process_cannot_take_is_skipped() -> None:
    params = points()
    before = [p.detach().clone() for p in params]
    optimizer = SAM(params)
    with pytest.raises(RuntimeError, match="first_step"):
        optimizer.skip_step()
    closure_of(optimizer, params)()
    optimizer.first_step()
    optimizer.skip_step()
    assert optimizer.skipped_steps == 1
    assert not optimizer.is_perturbed
    torch.testing.assert_close([p.detach() for p in params], before, rtol=0, atol=0)


def test_a_sparse_gradient_leaves_it_unperturbed() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = SAM(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        optimizer.first_step()
    assert not optimizer.is_perturbed


def test_one_cycle_finds_the_momentum() -> None:
    params = points()
    optimizer = SAM(params)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    momenta = set()
    for _ in range(5):
        optimizer.step(closure_of(optimizer, params))
        scheduler.step()
        momenta.add(optimizer.param_groups[0]["momentum"])
    assert len(momenta) == 5


@pytest.mark.parametrize("base", [SGD, Adam, LAMB])
def test_the_distributed_checkpoint_creates_and_restores_the_state(base: Any) -> None:
    # It creates the state by a step without a closure, with gradients of 0.
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = SAM(model.parameters(), partial(base, lr=0.01))
    saved = get_optimizer_state_dict(model, optimizer)
    torch.testing.assert_close([p.detach() for p in model.parameters()], before, rtol=0, atol=0)
    set_optimizer_state_dict(model, optimizer, saved)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert closure() < first
