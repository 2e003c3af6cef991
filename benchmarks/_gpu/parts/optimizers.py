"""A step of each optimizer on given parameters, as ratios to torch's fused Adam."""

import importlib
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lightning_modules.backbones import resnet20
from lightning_modules.callbacks.weight_average import WeightAverage
from optim import COCOB, LAMB, SAM, MovingAverage, Muon

from ..rows import Bench, Row
from ..timing import against, sample
from ..trace import traced

BASE = "Adam(fused)"
OURS = (
    *("LAMB()", "LAMB(foreach=True)", "COCOB()", "COCOB(foreach=True)", "SAM's own work", "Muon()"),
    *("EMA (WeightAverage)", "EMA (MovingAverage of lists)"),
)


class Nothing(SGD):
    """Base optimizer whose step does nothing, so that SAM's own work is what is left."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""


class UsualSAM(Optimizer):
    """The usual SAM (github.com/davda54/sam): a loop over tensors, and the weights cloned in each step."""

    def __init__(self, params: Iterable[Tensor], rho: float = 0.05) -> None:
        super().__init__(params, {"rho": rho})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> None:  # type: ignore[override]
        """Perturb, call the closure, restore."""
        closure()
        params = [p for group in self.param_groups for p in group["params"]]
        norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in params]), p=2)
        for p in params:
            self.state[p]["old"] = p.data.clone()
            p.add_(p.grad * (self.param_groups[0]["rho"] / (norm + 1e-12)))
        closure()
        for p in params:
            p.data = self.state[p]["old"]


class Holder(pl.LightningModule):
    """The parameters as a module, for what averages modules."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__()
        self.params = nn.ParameterList(params)


def peer(package: str, name: str, **options: Any) -> Callable[[Any], Optimizer]:
    """Return a factory of an optimizer of a package, which fails where that is not installed."""
    return lambda params: getattr(importlib.import_module(package), name)(params, **options)


def factories() -> dict[str, Callable[[Any], Optimizer]]:
    """Return the optimizers' factories by name; those with SAM in it take a closure."""
    return {
        BASE: partial(Adam, fused=True),
        "Adam(foreach)": partial(Adam, foreach=True),
        "LAMB()": LAMB,
        "LAMB(foreach=True)": partial(LAMB, foreach=True),
        "COCOB()": COCOB,
        "COCOB(foreach=True)": partial(COCOB, foreach=True),
        "Muon()": Muon,
        "SAM's own work": partial(SAM, base_optimizer=Nothing),
        "pytorch-optimizer Lamb": peer("pytorch_optimizer", "Lamb"),
        "timm Lamb": peer("timm.optim", "Lamb"),
        "torch-optimizer Lamb": peer("torch_optimizer", "Lamb"),
        "parameterfree COCOB": peer("parameterfree", "COCOB"),
        "pytorch-optimizer SAM": peer("pytorch_optimizer", "SAM", base_optimizer=Nothing),
        "usual SAM": UsualSAM,
        "timm Muon": peer("timm.optim", "Muon"),
    }


def averages(device: str) -> dict[str, Callable[[list[nn.Parameter]], Callable[[], Any]]]:
    """Return, by name, functions of parameters that make a function which updates their average."""

    def ours(params: list[nn.Parameter]) -> Callable[[], Any]:
        # The callback asks the trainer for nothing but the number of steps.
        module, trainer = Holder(params), SimpleNamespace(global_step=0, current_epoch=0)
        callback: Any = WeightAverage(0.999, torch.device(device))
        callback.setup(trainer, module, "fit")

        def update() -> None:
            trainer.global_step += 1
            callback.on_train_batch_end(trainer, module, None, None, 0)

        return update

    def torch_average(params: list[nn.Parameter]) -> Callable[[], Any]:
        module = Holder(params)
        average = AveragedModel(module, device=device, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        return lambda: average.update_parameters(module)

    def lists(params: list[nn.Parameter]) -> Callable[[], Any]:
        values, average = [p.detach() for p in params], MovingAverage(0.999)
        return partial(average, [value.clone() for value in values], values)

    def lerp(params: list[nn.Parameter]) -> Callable[[], Any]:
        values = [p.detach() for p in params]
        copies = [value.clone() for value in values]
        return lambda: torch._foreach_lerp_(copies, values, 0.001)

    return {
        "EMA (WeightAverage)": ours,
        "EMA (MovingAverage of lists)": lists,
        "EMA (torch AveragedModel)": torch_average,
        "EMA (one foreach lerp)": lerp,
    }


def shapes(network: str) -> list[torch.Size]:
    """Return the shapes of a network's parameters."""
    with torch.device("meta"):
        model = resnet20() if network == "resnet20" else importlib.import_module("timm").create_model("resnet50")
    return [p.shape for p in model.parameters()]


def makers(bench: Bench, network: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return by name functions that make a function which takes one step."""
    torch.manual_seed(0)
    grads = [0.01 * torch.randn(shape, device=bench.device) for shape in shapes(network)]

    def optimizer(factory: Callable[[Any], Optimizer], two_passes: bool) -> Callable[[], Any]:
        params = [nn.Parameter(10 * grad) for grad in grads]  # its own: some replace the tensors' memory
        step: Callable[..., Any] = factory(params).step

        def closure() -> None:
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad

        closure()
        result = partial(step, closure) if two_passes else step
        result()  # makes the state
        return result

    result = {name: partial(optimizer, make, "SAM" in name) for name, make in factories().items()}
    for name, make in averages(bench.device).items():
        result[name] = lambda make=make: make([nn.Parameter(10 * grad) for grad in grads])
    return result


def run(bench: Bench) -> None:
    """Time each in turn with the base, ours last as they may have to be compiled; then trace all.

    Tracing may slow down what follows.
    """
    rounds = 2 if bench.quick else 40
    steps: list[tuple[str, str, Callable[[], Any]]] = []
    cases = {}
    for network in ["resnet20"] if bench.quick else ["resnet50", "resnet20"]:
        every = makers(bench, network)
        cases[f"{network}'s {len(shapes(network))} tensors; x: ratio to {BASE}"] = every, every[BASE]()
    for ours in (False, True):
        for case, (every, base) in cases.items():
            for name in [name for name in every if (name in OURS) is ours]:

                def measured(case: str = case, name: str = name, make: Any = every[name], base: Any = base) -> Row:
                    step = base if name == BASE else make()
                    steps.append((case, name, step))
                    timed = (partial(sample, each, bench.device) for each in (base, step))
                    return against(*timed, rounds, 6.0)

                bench.measure(case, name, measured)
    busy: dict[str, float] = {}
    for case, name, step in steps:
        counts = bench.add_trace(case, name, partial(traced, step, bench.device, 2 if bench.quick else 5)) or {}
        if "busy_ms" in counts:
            busy.setdefault(case, counts["busy_ms"])  # the base's, which is the first
            bench.row(case, name, busy_ratio=counts["busy_ms"] / busy[case])
