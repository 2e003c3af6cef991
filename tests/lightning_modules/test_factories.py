"""Factories survive the way to plain data and back; what cannot is refused with one line."""

import functools
import json

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from lightning_modules.factories import ActivationFactory, factory, plain


def annotated() -> nn.Module:
    return nn.Tanh()


def unannotated():
    return nn.Tanh()


def returns_text() -> str:
    return "Tanh"


class Wrapper(Optimizer):
    """An optimizer around another one's factory, as sharpness-aware minimisation is."""

    def __init__(self, params, base_optimizer=SGD, rho=0.05, sizes=(1, 2)):
        self.base, self.rho, self.sizes = base_optimizer, rho, sizes
        super().__init__(params, {"rho": rho})


class TakesMany(nn.Module):
    def __init__(self, *values: float):
        super().__init__()


ROUND_TRIPS = {
    "class": (nn.GELU, "torch.nn.GELU"),
    "function": (annotated, f"{annotated.__module__}.annotated"),
    "path": ("torch.nn.modules.activation.ELU", "torch.nn.ELU"),
    "partial": (
        functools.partial(nn.LeakyReLU, negative_slope=0.2),
        {"class_path": "torch.nn.LeakyReLU", "init_args": {"negative_slope": 0.2}},
    ),
    "positional": (
        functools.partial(nn.Hardtanh, -2.0, 3.0),
        {"class_path": "torch.nn.Hardtanh", "init_args": {"min_val": -2.0, "max_val": 3.0}},
    ),
    "nested partial": (
        functools.partial(functools.partial(nn.Softplus, beta=2.0), threshold=9.0),
        {"class_path": "torch.nn.Softplus", "init_args": {"beta": 2.0, "threshold": 9.0}},
    ),
    "dictionary": (
        {"class_path": "torch.nn.ELU", "init_args": {"alpha": 0.5}},
        {"class_path": "torch.nn.ELU", "init_args": {"alpha": 0.5}},
    ),
    "dictionary without arguments": ({"class_path": nn.ELU}, "torch.nn.ELU"),
}


@pytest.mark.parametrize(("value", "expected"), ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_round_trip(value, expected):
    written = plain(value, "activation", nn.Module)
    assert written == expected
    assert json.loads(json.dumps(written)) == written
    assert plain(written, "activation", nn.Module) == written
    made = factory(written, "activation", nn.Module)()
    if callable(value):
        x = torch.linspace(-4, 4, 50)
        assert torch.equal(made(x), value()(x))
        assert repr(made) == repr(value())


def test_factory_among_the_arguments():
    given = functools.partial(Wrapper, base_optimizer=functools.partial(Adam, lr=0.3), sizes=(3, [4]))
    written = plain(given, "optimizer", Optimizer)
    assert json.loads(json.dumps(written)) == written
    assert written["init_args"]["base_optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.3}}
    made = factory(written, "optimizer", Optimizer)([torch.zeros(1, requires_grad=True)])
    assert isinstance(made, Wrapper)
    assert made.sizes == [3, [4]]
    base = made.base([torch.zeros(1, requires_grad=True)])
    assert isinstance(base, Adam)
    assert base.param_groups[0]["lr"] == 0.3


def test_string_arguments_stay_strings():
    written = plain(functools.partial(nn.GELU, approximate="tanh"), "activation")
    assert factory(written, "activation")().approximate == "tanh"


def test_scheduler():
    written = plain(functools.partial(StepLR, step_size=3), "lr_scheduler", LRScheduler)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    assert factory(written, "lr_scheduler", LRScheduler)(optimizer).step_size == 3


def test_what_jsonargparse_makes():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--activation", type=ActivationFactory)
    parsed = parser.parse_args(["--activation", "torch.nn.LeakyReLU", "--activation.negative_slope", "0.3"])
    given = parser.instantiate(parsed).activation
    written = plain(given, "activation", nn.Module)
    assert written["class_path"] == "torch.nn.LeakyReLU"
    assert written["init_args"]["negative_slope"] == 0.3
    assert repr(factory(written, "activation")()) == repr(given())


class Local:
    """Holds a nested class: importable by its qualified name."""

    class Act(nn.ReLU):
        pass


def test_nested_class():
    assert factory(plain(Local.Act, "activation"), "activation") is Local.Act


def local_class():
    class Inner(nn.ReLU):
        pass

    return Inner


REFUSED = {
    "lambda": (lambda: nn.ReLU(), "lambda"),
    "closure": (local_class(), "inside a function"),
    "partial of a lambda": (functools.partial(lambda slope: nn.LeakyReLU(slope), 0.1), "lambda"),
    "object": (nn.ReLU(), "object, not a factory"),
    "number": (3, "object, not a factory"),
    "bound method": (nn.ReLU().forward, "cannot be imported"),
    "object among the arguments": (functools.partial(nn.Sequential, nn.ReLU()), "keyword"),
    "tensor among the arguments": (functools.partial(nn.ELU, alpha=torch.ones(())), "activation.alpha"),
    "variable positional": (functools.partial(TakesMany, 1.0), "keyword"),
    "too many positional": (functools.partial(nn.ReLU, True, 2, 3), "bound arguments"),
    "no module": ("no_such_module.ReLU", "nothing can be imported"),
    "no attribute": ("torch.nn.NoSuch", "nothing can be imported"),
    "no path": ("GELU", "full import path"),
    "another product": (SGD, "not a subclass of Module"),
    "a dangerous path": ("os.system", "neither a class nor a function"),
    "a dangerous function": ({"class_path": "subprocess.run", "init_args": {"args": "x"}}, "annotated"),
    "a dangerous argument": (
        {"class_path": "torch.nn.ELU", "init_args": {"alpha": {"class_path": "subprocess.run"}}},
        "annotated",
    ),
    "unannotated function": (unannotated, "annotated"),
    "function of something else": (returns_text, "annotated"),
    "bad keys": ({"class_path": "torch.nn.ELU", "args": {}}, "keys"),
    "no keys": ({}, "class_path"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_one_line(value, message):
    with pytest.raises(ValueError, match=message) as error:
        plain(value, "activation", nn.Module)
    assert str(error.value).startswith("activation")
    assert "\n" not in str(error.value)


def test_reading_checks_too():
    with pytest.raises(ValueError, match="annotated"):
        factory({"class_path": "subprocess.run", "init_args": {"args": "x"}}, "activation", nn.Module)
    with pytest.raises(ValueError, match="annotated"):
        factory({"class_path": "torch.nn.ELU", "init_args": {"alpha": {"class_path": "subprocess.run"}}}, "activation")
