"""Factories survive the way to plain data and back; what cannot is marked, or refused with one line."""

import copy
import functools
import json
import pickle

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from lightning_modules.factories import ActivationFactory, callable_of, factory, plain


def annotated() -> nn.Module:
    return nn.Tanh()


def unannotated():
    return nn.Tanh()


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
    "function without annotation": (unannotated, f"{unannotated.__module__}.unannotated"),
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
    made = factory(written, "activation")()
    if callable(value):
        x = torch.linspace(-4, 4, 50)
        assert torch.equal(made(x), value()(x))
        assert repr(made) == repr(value())


def test_factory_among_the_arguments():
    given = functools.partial(Wrapper, base_optimizer=functools.partial(Adam, lr=0.3), sizes=(3, [4]))
    written = plain(given, "optimizer", Optimizer)
    assert json.loads(json.dumps(written)) == written
    assert written["init_args"]["base_optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.3}}
    made = factory(written, "optimizer")([torch.zeros(1, requires_grad=True)])
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
    assert factory(written, "lr_scheduler")(optimizer).step_size == 3


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

    def make(self):
        return nn.ReLU()


def test_nested_class():
    assert factory(plain(Local.Act, "activation"), "activation") is Local.Act


def local_class():
    class Inner(nn.ReLU):
        pass

    return Inner


UNSAVED = {
    "lambda": lambda: nn.ReLU(),
    "closure": local_class(),
    "partial of a lambda": functools.partial(lambda slope: nn.LeakyReLU(slope), 0.1),
    "module": nn.ReLU(),
    "bound method": Local().make,
    "object among the arguments": functools.partial(nn.Sequential, nn.ReLU()),
    "tensor among the arguments": functools.partial(nn.ELU, alpha=torch.ones(())),
    "variable positional": functools.partial(TakesMany, 1.0),
    "lambda among the arguments": functools.partial(Wrapper, base_optimizer=lambda params: SGD(params)),
}


@pytest.mark.parametrize("value", UNSAVED.values(), ids=UNSAVED)
def test_what_is_no_plain_data_is_marked(value):
    written = plain(value, "activation", (nn.Module, Optimizer))
    assert list(written) == ["unsaved"]
    assert "0x" not in written["unsaved"]
    assert len(json.dumps(written)) < 120
    made = callable_of(value, written, "activation")
    assert isinstance(copy.deepcopy(made).value, type(value))
    with pytest.raises(ValueError, match="pass activation=") as error:
        plain(written, "activation", nn.Module)
    assert "\n" not in str(error.value)


def test_a_module_is_copied_for_each_site():
    prelu = nn.PReLU()
    made = callable_of(prelu, plain(prelu, "activation"), "activation")
    first, second = made(), made()
    assert isinstance(first, nn.PReLU)
    assert len({id(one.weight) for one in (prelu, first, second)}) == 3


def test_pickling_what_python_can_pickle():
    prelu = nn.PReLU()
    made = pickle.loads(pickle.dumps(callable_of(prelu, {"unsaved": "PReLU()"}, "activation")))
    assert isinstance(made.value, nn.PReLU)
    with pytest.raises(pickle.PicklingError, match=r"activation.*top level") as error:
        pickle.dumps(callable_of(UNSAVED["lambda"], {"unsaved": "lambda"}, "activation"))
    assert "\n" not in str(error.value)


NAMES = {
    ("SPOCU", "activation"): "activations.SPOCU",
    ("leaky_relu", "activation"): "torch.nn.LeakyReLU",
    ("LAMB", "optimizer"): "optim.LAMB",
    ("SGD", "optimizer"): "torch.optim.SGD",
    ("Lion", "optimizer"): "timm.optim.Lion",
    ("StepLR", "lr_scheduler"): "torch.optim.lr_scheduler.StepLR",
}


@pytest.mark.parametrize(("name", "path"), NAMES.items(), ids=[name for name, _ in NAMES])
def test_short_names(name, path):
    product = {"activation": nn.Module, "optimizer": Optimizer, "lr_scheduler": LRScheduler}[name[1]]
    assert plain(*name, product) == path


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match=r"optimizer: nothing is named 'AdamX'.*Adam"):
        plain("AdamX", "optimizer", Optimizer)


REFUSED = {
    "number": (3, "must be a class, a function"),
    "no module": ("no_such_module.ReLU", "nothing can be imported"),
    "no attribute": ("torch.nn.NoSuch", "nothing can be imported"),
    "another product": (SGD, "not a subclass of Module"),
    "an object of another product": (SGD([torch.zeros(1)]), "not a subclass of Module"),
    "a module's path": ("torch.nn", "must be a class, a function"),
    "bad keys": ({"class_path": "torch.nn.ELU", "args": {}}, "keys"),
    "no keys": ({}, "class_path"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_one_line(value, message):
    with pytest.raises(ValueError, match=message) as error:
        plain(value, "activation", nn.Module)
    assert str(error.value).startswith("activation")
    assert "\n" not in str(error.value)


def test_a_failing_import_gives_its_reason(tmp_path, monkeypatch):
    (tmp_path / "breaks_on_import.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="no_such_dependency"):
        plain("breaks_on_import.Net", "backbone", nn.Module)
