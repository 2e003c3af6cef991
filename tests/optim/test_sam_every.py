"""SAM that perturbs every k-th step only, against steps of SAM and of its base optimizer by turns."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from optim import SAM


def points() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(x)) for x in ([3.0, -1.0], [0.5, 0.25])]


def sam(params: Any, **options: Any) -> SAM:
    return SAM(params, SGD, lr=0.05, momentum=0.9, rho=0.3, **options)


class Loss:
    """A loss whose evaluations are counted; those of `breaks` have an infinite gradient."""

    def __init__(self, params: list[nn.Parameter], breaks: tuple[int, ...] = ()) -> None:
        self.params, self.breaks, self.evaluations = params, breaks, 0

    def __call__(self) -> Tensor:
        for p in self.params:
            p.grad = None
        loss: Any = sum((torch.tensor([1.0, 10.0]) * p**2).sum() for p in self.params)
        loss.backward()
        if self.evaluations in self.breaks:
            self.params[0].grad[0] = torch.inf  # type: ignore[index]
        self.evaluations += 1
        return loss


def weights(params: list[nn.Parameter]) -> Tensor:
    return torch.stack([p.detach().clone() for p in params])


def by_turns(every: int, steps: int) -> Tensor:
    """The weights after steps of SAM and of its base."""
    params = points()
    optimizer, loss = sam(params), Loss(params)
    for i in range(steps):
        if i % every == 0:
            optimizer.step(loss)
        else:
            loss()
            optimizer.base_optimizer.step()
    return weights(params)


def closure(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    optimizer.step(loss)


def both_passes(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    loss()
    optimizer.first_step(zero_grad=True)
    loss()
    optimizer.second_step(zero_grad=True)


def if_moved(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    loss()
    if optimizer.first_step(zero_grad=True):
        loss()
        optimizer.second_step(zero_grad=True)


def if_perturbing(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    loss()
    if optimizer.perturbs_next:
        optimizer.first_step(zero_grad=True)
        loss()
    optimizer.second_step(zero_grad=True)


@pytest.mark.parametrize("every", [1, 2, 3, 10])
@pytest.mark.parametrize(
    ("take", "saves"), [(closure, True), (both_passes, False), (if_moved, False), (if_perturbing, True)]
)
def test_every_loop_takes_the_same_steps(take: Any, saves: bool, every: int) -> None:
    params = points()
    optimizer, loss = sam(params, every=every), Loss(params)
    for _ in range(7):
        take(optimizer, loss)
    assert torch.equal(weights(params), by_turns(every, 7))
    assert optimizer.steps == 7
    assert loss.evaluations == (7 + -(-7 // every) if saves else 14)


def loaded(params: list[nn.Parameter], optimizer: SAM) -> tuple[list[nn.Parameter], SAM]:
    again = sam(params, every=3)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return params, again


def pickled(params: list[nn.Parameter], optimizer: SAM) -> tuple[list[nn.Parameter], SAM]:
    again = pickle.loads(pickle.dumps(optimizer))
    return again.param_groups[0]["params"], again


@pytest.mark.parametrize("restore", [loaded, pickled])
@pytest.mark.parametrize("stopped", [1, 2, 3, 4])
def test_a_saved_optimizer_continues_at_its_step(stopped: int, restore: Any) -> None:
    params = points()
    optimizer = sam(params, every=3)
    for i in range(8):
        if i == stopped:
            params, optimizer = restore(params, optimizer)
        optimizer.step(Loss(params))
    assert torch.equal(weights(params), by_turns(3, 8))


@pytest.mark.parametrize("take", [closure, both_passes, if_perturbing])
def test_an_infinite_gradient_skips_any_step_and_is_not_counted(take: Any) -> None:
    params = points()
    optimizer, loss = sam(params, every=2), Loss(params, breaks=(2, 3))
    take(optimizer, loss)  # evaluations 0 and 1
    before = weights(params)
    take(optimizer, loss)
    assert torch.equal(weights(params), before)
    assert (optimizer.steps, optimizer.skipped_steps, optimizer.is_perturbed) == (1, 1, False)
    loss.breaks = ()
    take(optimizer, loss)
    assert (optimizer.steps, optimizer.skipped_steps) == (2, 1)


def test_hooks_of_a_plain_step_are_called_once() -> None:
    calls = []
    params = points()
    optimizer, loss = sam(params, every=4), Loss(params)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    for take in (closure, if_perturbing, both_passes):
        calls.clear()
        take(optimizer, loss)
        assert calls == ["before", "after"]


def test_the_sharpness_is_that_of_the_last_perturbed_step() -> None:
    params = points()
    optimizer, loss = sam(params, every=2), Loss(params)
    optimizer.step(loss)
    first = optimizer.sharpness
    optimizer.step(loss)
    assert optimizer.sharpness is first is not None
    optimizer.step(loss)
    assert optimizer.sharpness is not first


def test_a_second_step_alone_is_refused_at_a_perturbed_step_only() -> None:
    params = points()
    optimizer, loss = sam(params, every=2), Loss(params)
    loss()
    with pytest.raises(RuntimeError, match="first_step"):
        optimizer.second_step()
    both_passes(optimizer, loss)
    assert not optimizer.perturbs_next
    optimizer.second_step()


def test_a_state_of_its_base_or_from_before_the_count_begins_at_zero() -> None:
    params = points()
    base: Optimizer = SGD(params, lr=0.05, momentum=0.9)
    optimizer = sam(params, every=3)
    optimizer.steps = 2
    optimizer.load_state_dict(base.state_dict())
    assert optimizer.steps == 0


@pytest.mark.parametrize("every", [0, -1, 2.0, 1.5, True, "2", None])
def test_wrong_periods_are_refused_in_one_line(every: Any) -> None:
    with pytest.raises(ValueError, match=r"every must be a whole number of at least 1, found [^\n]+$"):
        sam(points(), every=every)
