"""SAM's base optimizer: how it is given, what it refuses, and whose state dict is saved and loaded."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adadelta, Adam

from optim import LAMB, SAM


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: Any, steps: int = 3) -> Tensor:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize("cls", [SGD, Adam, LAMB])
def test_further_keywords_are_the_base_optimizers(cls: Any) -> None:
    one, other = network(), network()
    by_keyword = SAM(one.parameters(), cls, lr=0.3, weight_decay=0.1)
    bound = SAM(other.parameters(), partial(cls, lr=0.3, weight_decay=0.1))
    assert by_keyword.defaults == bound.defaults
    assert torch.equal(train(one, by_keyword), train(other, bound))


def test_further_keywords_go_to_the_default_base_and_over_a_partial() -> None:
    group = SAM(network().parameters(), lr=0.3).param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.3, 0.9)
    assert SAM(network().parameters(), partial(SGD, lr=0.1), lr=0.3).param_groups[0]["lr"] == 0.3


def test_an_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match=r"SGD.*momentun") as caught:
        SAM(network().parameters(), SGD, lr=0.1, momentun=0.9)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (lambda params: SGD(params, lr=0.1), r"instance of SGD.*give the class"),
        (lambda params: "SGD", r"instance of str.*give the class"),
        (lambda params: lambda groups: None, r"instance of NoneType"),
        (lambda params: Adadelta, r"Adadelta.*rho"),
        (lambda params: SAM, r"SAM.*rho"),
        (lambda params: LBFGS, r"LBFGS.*closure"),
    ],
)
def test_an_unfit_base_is_refused(base: Callable[[list[Tensor]], Any], words: str) -> None:
    params = list(network().parameters())
    with pytest.raises(ValueError, match=f"base_optimizer.*{words}") as caught:
        SAM(params, base(params))
    assert "\n" not in str(caught.value)


def test_names_of_parameters_and_of_a_group_added_later() -> None:
    model, extra = network(), nn.Parameter(torch.ones(2))
    optimizer = SAM(model[0].named_parameters(), SGD, lr=0.1)
    optimizer.add_param_group({"params": [("extra", extra)], "rho": 0.0, "lr": 0.2})
    assert [group["param_names"] for group in optimizer.state_dict()["param_groups"]] == [["weight", "bias"], ["extra"]]
    assert optimizer.base_optimizer.param_groups[1]["lr"] == 0.2
    other = SAM(network()[0].named_parameters(), SGD, lr=0.1)
    other.add_param_group({"params": [("extra", nn.Parameter(torch.ones(2)))]})
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[1]["rho"] == 0.0


class Counted(SGD):
    """Momentum SGD whose state dict has an entry of its own."""

    count = 0

    def step(self, closure: Any = None) -> Any:
        self.count += 1
        return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert "skipped_steps" not in state_dict
        super().load_state_dict(state_dict)
        self.count = state_dict["count"]


def test_the_base_optimizers_own_state_dict_is_saved_and_loaded() -> None:
    model, other = network(), network()
    optimizer = SAM(model.parameters(), Counted, lr=0.1, momentum=0.9)
    train(model, optimizer)
    resumed = SAM(other.parameters(), Counted, lr=0.1, momentum=0.9)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.base_optimizer.count == 3  # type: ignore[attr-defined]
    assert resumed.param_groups is resumed.base_optimizer.param_groups
    assert torch.equal(train(model, optimizer), train(other, resumed))


def test_a_state_dict_of_the_base_optimizer_alone_can_be_loaded() -> None:
    model, other = network(), network()
    alone = SGD(model.parameters(), lr=0.3, momentum=0.9)
    train(model, alone)
    optimizer = SAM(other.parameters(), SGD, lr=0.1, momentum=0.5, rho=0.0)
    other.load_state_dict(model.state_dict())
    optimizer.load_state_dict(copy.deepcopy(alone.state_dict()))
    assert optimizer.param_groups[0]["rho"] == 0.0
    torch.testing.assert_close(train(other, optimizer), train(model, alone))
    with pytest.raises(ValueError, match="number of parameter groups"):
        optimizer.load_state_dict(SGD([{"params": [p]} for p in network().parameters()], lr=0.1).state_dict())


def test_hooks_of_state_dicts_are_called_once_and_see_the_whole() -> None:
    optimizer, calls = SAM(network().parameters(), Counted, lr=0.1), list[str]()
    base = optimizer.base_optimizer
    for name, owner in (("sam", optimizer), ("base", base)):
        owner.register_state_dict_pre_hook(lambda _, name=name: calls.append(f"{name} save"))
        owner.register_load_state_dict_post_hook(lambda _, name=name: calls.append(f"{name} loaded"))

    def saved(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        calls.append(f"saved {sorted(state)}")
        return {**state, "mine": 1}

    def load(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        calls.append(f"load {state.pop('mine')}")
        return {**state, "count": 7}

    optimizer.register_state_dict_post_hook(saved)
    optimizer.register_load_state_dict_pre_hook(load)
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == [
        "sam save",
        "base save",
        "saved ['count', 'param_groups', 'skipped_steps', 'state', 'steps']",
        "load 1",
        "base loaded",
        "sam loaded",
    ]
    assert base.count == 7  # type: ignore[attr-defined]
