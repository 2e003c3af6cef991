"""Requirements of every optimizer, for each class that `optim` exports and each implementation flag that it has.

torch's Adam takes the tests too, as a control of the tests themselves.
"""

import copy
import inspect
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

import optim
from optim import COCOB, LAMB, SAM, Muon

OURS: dict[str, Any] = {
    name: member for name, member in vars(optim).items() if isinstance(member, type) and issubclass(member, Optimizer)
}
FLAGS: dict[str, dict[str, bool]] = {
    "foreach": {"foreach": True},
    "one-by-one": {"foreach": False},
    "capturable": {"capturable": True},
    "fused": {"fused": True},
}


def takes(cls: Any, option: str) -> bool:
    return option in inspect.signature(cls).parameters


def factories(cls: Any) -> dict[str, Callable[..., Optimizer]]:
    """Return the class by its name, and once for each implementation flag that it takes."""
    plain = partial(cls, lr=0.05) if takes(cls, "lr") else partial(cls)
    flagged = {f"{cls.__name__}-{name}": partial(plain, **flag) for name, flag in FLAGS.items() if takes(cls, *flag)}
    return {cls.__name__: plain, **flagged}


FACTORIES: dict[str, Callable[..., Optimizer]] = {
    "Adam": partial(Adam, lr=0.05),
    **{name: factory for cls in OURS.values() for name, factory in factories(cls).items()},
    "SAM": partial(SAM, base_optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9)),
    "ASAM": partial(SAM, base_optimizer=partial(Adam, lr=0.05), adaptive=True, rho=0.5),
    "SAM-LAMB": partial(SAM, base_optimizer=partial(LAMB, lr=0.05)),
    "SAM-COCOB": partial(SAM, base_optimizer=COCOB),
    "SAM-Muon": partial(SAM, base_optimizer=partial(Muon, lr=0.05)),
    "Muon-SGD": partial(Muon, lr=0.05, rest="sgd"),
}
every = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES.keys())
each_of_ours = pytest.mark.parametrize("cls", OURS.values(), ids=OURS.keys())
DIFFERENTIABLE = {"Adam": Adam, **{name: OURS[name] for name in ("LAMB", "COCOB")}}
each_differentiable = pytest.mark.parametrize("cls", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE.keys())
SCHEDULED = [name for name, make in FACTORIES.items() if "lr" in make([nn.Parameter(torch.ones(1))]).param_groups[0]]


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 2)).to(dtype)


def loss_of(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    parameter = next(model.parameters())
    x = torch.randn(16, 4, generator=generator).to(parameter.dtype)
    return nn.functional.cross_entropy(model(x), (x[:, 0] * x[:, 1] > 0).long())


def train(
    model: nn.Module, optimizer: Optimizer, steps: int, loss: Callable[[nn.Module], Tensor] = loss_of
) -> list[float]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        return value

    step: Any = optimizer.step
    return [step(closure).item() for _ in range(steps)]


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@every
def test_learns(factory: Callable[..., Optimizer]) -> None:
    model = network()
    losses = train(model, factory(model.parameters()), 300)
    assert losses[-1] < 0.5 * losses[0]


@every
def test_step_returns_the_loss_before_the_step(factory: Callable[..., Optimizer]) -> None:
    model = network()
    before = loss_of(model).item()
    assert train(model, factory(model.parameters()), 1) == [before]
    assert loss_of(model).item() != before


@every
def test_resume_is_bit_exact(factory: Callable[..., Optimizer]) -> None:
    model = network()
    optimizer = factory(model.parameters())
    train(model, optimizer, 5)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(model, optimizer, 5)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network()
    other.load_state_dict(saved["model"])
    resumed = factory(other.parameters())
    resumed.load_state_dict(saved["optimizer"])
    train(other, resumed, 5)
    assert torch.equal(weights(model), weights(other))


@every
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_and_pickles_continue_alike(factory: Callable[..., Optimizer], duplicate: Callable[[Any], Any]) -> None:
    model = network()
    optimizer = factory(model.parameters())
    train(model, optimizer, 3)
    other, twin = duplicate((model, optimizer))
    assert type(twin) is type(optimizer)
    train(model, optimizer, 3)
    train(other, twin, 3)
    assert torch.equal(weights(model), weights(other))


@every
def test_maximize_ascends(factory: Callable[..., Optimizer]) -> None:
    model, mirror = network(), network()
    train(model, factory([{"params": list(model.parameters()), "maximize": True}]), 4)
    train(mirror, factory(mirror.parameters()), 4, lambda m: -loss_of(m))
    torch.testing.assert_close(weights(model), weights(mirror), rtol=1e-5, atol=1e-6)


@every
def test_groups_have_their_own_options(factory: Callable[..., Optimizer]) -> None:
    model, other = network(), network()
    first, last = list(model[0].parameters()), list(model[3].parameters())
    option = "weight_decay" if "weight_decay" in factory(first).param_groups[0] else "lr"
    optimizer = factory([{"params": first}, {"params": last, option: 0.3}])
    assert [group[option] == 0.3 for group in optimizer.param_groups] == [False, True]
    train(model, optimizer, 3)
    train(other, factory([{"params": other[0].parameters()}, {"params": other[3].parameters()}]), 3)
    assert not torch.equal(weights(model), weights(other))


@every
def test_a_group_added_later_is_trained(factory: Callable[..., Optimizer]) -> None:
    model = network()
    optimizer = factory(model[0].parameters())
    train(model, optimizer, 2)
    last = model.get_submodule("3").get_parameter("weight")
    before = last.detach().clone()
    optimizer.add_param_group({"params": model.get_submodule("3").parameters()})
    train(model, optimizer, 2)
    assert len(optimizer.param_groups) == 2
    assert not torch.equal(last, before)
    optimizer.load_state_dict(optimizer.state_dict())


@every
def test_parameters_without_a_gradient_stay(factory: Callable[..., Optimizer]) -> None:
    model = network()
    unused = nn.Parameter(torch.ones(3))
    optimizer = factory([*model.parameters(), unused])
    train(model, optimizer, 2)
    assert torch.equal(unused, torch.ones(3))
    assert unused not in optimizer.state


@every
def test_nothing_to_step(factory: Callable[..., Optimizer]) -> None:
    parameter = nn.Parameter(torch.ones(3))
    step: Any = factory([parameter]).step
    step(lambda: torch.tensor(1.0))
    assert torch.equal(parameter, torch.ones(3))


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(factory: Callable[..., Optimizer], dtype: torch.dtype) -> None:
    model = network(dtype)
    before = weights(model)
    optimizer = factory(model.parameters())
    train(model, optimizer, 3)
    after = weights(model)
    assert after.dtype is dtype
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    for state in optimizer.state.values():
        assert all(value.dtype is dtype for key, value in state.items() if key != "step" and value is not None)


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize(
    "schedule",
    [
        partial(LambdaLR, lr_lambda=lambda step: 0.5**step),
        partial(CosineAnnealingLR, T_max=5),
        partial(OneCycleLR, max_lr=0.1, total_steps=6),
        ReduceLROnPlateau,
    ],
)
def test_schedulers_change_the_rate(name: str, schedule: Callable[..., Any]) -> None:
    model = network()
    optimizer = FACTORIES[name](model.parameters())
    if isinstance(schedule, partial) and schedule.func is OneCycleLR:
        schedule = partial(schedule, cycle_momentum=False)
    scheduler = schedule(optimizer)
    rates = []
    for _ in range(12 if schedule is ReduceLROnPlateau else 5):
        train(model, optimizer, 1)
        scheduler.step(*([1.0] if schedule is ReduceLROnPlateau else []))
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 1
    optimizer.param_groups[0]["lr"] = 0.0
    before = weights(model)
    train(model, optimizer, 1)
    assert torch.equal(weights(model), before)


@each_differentiable
def test_autograd_goes_through_a_differentiable_step(cls: Callable[..., Optimizer]) -> None:
    torch.manual_seed(0)
    w0 = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def after_two_steps(w0: Tensor) -> Tensor:
        w = w0.clone()
        optimizer = cls([w], differentiable=True)
        for _ in range(2):
            w.grad = w0**2 + 1
            optimizer.step()
        return w.sin()

    assert torch.autograd.gradcheck(after_two_steps, (w0,))


@pytest.mark.parametrize("name", [*DIFFERENTIABLE, pytest.param("LAMB-foreach", marks=pytest.mark.slow), "Muon-SGD"])
def test_a_step_compiled_by_the_user(name: str) -> None:
    results = []
    for compiled in (False, True):
        model = network()
        optimizer = FACTORIES[name](model.parameters())
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            step()
        results.append(weights(model))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# torch's own Adam, also within SAM, fails with another default device in torch 2.11.
@pytest.mark.parametrize("name", [name for name in FACTORIES if name not in ("Adam", "ASAM")])
def test_another_default_device_or_type_changes_nothing(name: str) -> None:
    results = []
    for context in (nullcontext(), torch.device("meta"), default_dtype(torch.float64)):
        params = list(network().parameters())

        def closure(params: list[nn.Parameter] = params) -> Tensor:
            for p in params:
                p.grad = torch.sin(3 * p.detach())
            return params[0].detach().sum()

        step: Any = FACTORIES[name](params).step
        with context:
            step(closure)
            step(closure)
        results.append(nn.utils.parameters_to_vector(params).detach())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@each_of_ours
def test_sparse_gradients_are_refused(cls: Callable[..., Optimizer]) -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    before = embedding.weight.detach().clone()
    optimizer = cls(embedding.parameters())

    def closure() -> Tensor:
        loss = embedding(torch.tensor([1])).sum()
        loss.backward()
        return loss

    step: Any = optimizer.step
    with pytest.raises(ValueError, match="sparse gradients"):
        step(closure)
    assert torch.equal(embedding.weight, before)


@each_of_ours
def test_complex_parameters_are_refused(cls: Callable[..., Optimizer]) -> None:
    complex_parameter = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="complex"):
        cls([complex_parameter])
    optimizer = cls([nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="complex"):
        optimizer.add_param_group({"params": [complex_parameter]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (LAMB, {"lr": -1.0}),
        (LAMB, {"lr": float("nan")}),
        (LAMB, {"betas": (0.9, 1.0)}),
        (LAMB, {"betas": (-0.1, 0.9)}),
        (LAMB, {"betas": (0.9,)}),
        (LAMB, {"eps": -1e-8}),
        (LAMB, {"weight_decay": -0.1}),
        (LAMB, {"norm_bounds": (2.0, 1.0)}),
        (LAMB, {"foreach": True, "fused": True}),
        (LAMB, {"fused": True, "differentiable": True}),
        (LAMB, {"capturable": True, "foreach": True}),
        (COCOB, {"alpha": 0.0}),
        (COCOB, {"alpha": float("inf")}),
        (COCOB, {"weight_decay": -0.1}),
        (COCOB, {"foreach": True, "fused": True}),
        (Muon, {"lr": -1.0}),
        (Muon, {"weight_decay": -0.1}),
        (Muon, {"momentum": 1.0}),
        (Muon, {"ns_coefficients": (1.5, -0.5)}),
        (Muon, {"ns_coefficients": (1.5, float("nan"), 0.0)}),
        (Muon, {"eps": 0.0}),
        (Muon, {"ns_steps": 100}),
        (Muon, {"ns_steps": 2.5}),
        (Muon, {"adjust_lr_fn": "none"}),
        (Muon, {"filter_norm": 0.0}),
        (Muon, {"method": "lamb"}),
        (Muon, {"method": "muon"}),
        (Muon, {"rest": "muon"}),
        (Muon, {"rest_lr_factor": -1.0}),
        (Muon, {"adamw_betas": (0.9, 1.0)}),
        (Muon, {"adamw_eps": float("inf")}),
        (Muon, {"ns_dtype": "int8"}),
        (Muon, {"differentiable": True}),
        (Muon, {"capturable": True, "foreach": True}),
        (SAM, {"rho": -0.1}),
        (SAM, {"rho": float("nan")}),
        (SAM, {"eta": -0.1}),
    ],
)
def test_bad_values_are_named(cls: Callable[..., Optimizer], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(options))}.*(found|exclude)") as caught:
        cls([nn.Parameter(torch.ones(2))], **options)
    assert "\n" not in str(caught.value)
    optimizer = cls([nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match=next(iter(options))):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], **options})
    assert len(optimizer.param_groups) == 1


@each_of_ours
def test_the_gradient_scaler_steps_on_the_unscaled_gradient(cls: Callable[..., Optimizer]) -> None:
    if cls is SAM:
        pytest.skip("SAM needs a closure, which the scaler refuses")
    model, other = network(), network()
    optimizer, plain = cls(model.parameters()), cls(other.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model)).backward()
        scaler.step(optimizer)
        scaler.update()
    train(other, plain, 3)
    torch.testing.assert_close(weights(model), weights(other))


def test_the_optimizers_are_factories_of_parameters() -> None:
    def uses(factory: Callable[[Iterable[Tensor]], Optimizer]) -> Optimizer:
        return factory([nn.Parameter(torch.ones(2))])

    for cls in OURS.values():
        assert isinstance(uses(cls), Optimizer)
