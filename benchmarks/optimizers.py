"""Time of an optimizer step: LAMB, COCOB and SAM against torch's Adam and other implementations of the same algorithm.

    pip install pytorch-optimizer torch-optimizer parameterfree
    python benchmarks/optimizers.py

All optimizers step the same parameters along the same gradients. In each round every optimizer takes one step, and its
time is divided by that of Adam(fused=True) in the same round. Peers that are not installed are left out.
SAM's rows show its own work: the closures only assign precomputed gradients, and the base optimizer does nothing.
"""

import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import timm
import timm.optim
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._record import write_record
from lightning_modules.backbones import resnet20
from optim import COCOB, LAMB, SAM

BASE = "torch Adam, fused"


class Nothing(torch.optim.SGD):
    """Base optimizer whose step does nothing."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""


class UsualSAM(Optimizer):
    """The usual SAM (github.com/davda54/sam): a loop over tensors, and the weights cloned in each step."""

    def __init__(self, params: Iterable[Tensor], base_optimizer: Callable[..., Optimizer], rho: float = 0.05) -> None:
        super().__init__(params, {"rho": rho})
        self.base_optimizer = base_optimizer(self.param_groups)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> None:  # type: ignore[override]
        """Perturb, call the closure, restore, step."""
        closure()
        params = [p for group in self.param_groups for p in group["params"]]
        norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in params]), p=2)
        for p in params:
            self.state[p]["old"] = p.data.clone()
            p.add_(p.grad * (self.param_groups[0]["rho"] / (norm + 1e-12)))
        closure()
        for p in params:
            p.data = self.state[p]["old"]
        self.base_optimizer.step()


def candidates() -> dict[str, Callable[[list[nn.Parameter]], Optimizer]]:
    """Return the factories by name, with those of the peers that are installed."""
    result: dict[str, Callable[..., Optimizer]] = {
        BASE: partial(Adam, fused=True),
        "torch Adam, foreach": partial(Adam, foreach=True),
        "torch Adam, loop": partial(Adam, foreach=False),
        "LAMB": LAMB,
        "LAMB, fused": partial(LAMB, fused=True),
        "timm Lamb": timm.optim.Lamb,
        "pytorch-optimizer Lamb": _peer("pytorch_optimizer", "Lamb"),
        "torch-optimizer Lamb": _peer("torch_optimizer", "Lamb"),
        "COCOB": COCOB,
        "COCOB, fused": partial(COCOB, fused=True),
        "parameterfree COCOB": _peer("parameterfree", "COCOB"),
        "SAM": partial(SAM, base_optimizer=Nothing),
        "usual SAM": partial(UsualSAM, base_optimizer=Nothing),
        "pytorch-optimizer SAM": _peer("pytorch_optimizer", "SAM", base_optimizer=Nothing),
    }
    return {name: factory for name, factory in result.items() if factory is not None}


def _peer(package: str, name: str, **options: Any) -> Any:
    try:
        return partial(getattr(importlib.import_module(package), name), **options)
    except ModuleNotFoundError:
        return None


def shapes(network: Literal["resnet20", "resnet50"]) -> list[torch.Size]:
    """Return the shapes of a network's parameters."""
    model = resnet20() if network == "resnet20" else timm.create_model("resnet50")
    return [p.shape for p in model.parameters()]


def measure(
    network: Literal["resnet20", "resnet50"], rounds: int, device: str, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each optimizer's step in each round, and of its first step."""
    torch.manual_seed(0)
    # All optimizers share the parameters: their values do not affect the time of a step.
    params = [nn.Parameter(0.1 * torch.randn(shape, device=device)) for shape in shapes(network)]
    grads = [0.01 * torch.randn_like(p) for p in params]

    def closure() -> Tensor:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        return torch.zeros(())

    def seconds(optimizer: Optimizer) -> float:
        closure()
        two_passes = isinstance(optimizer, (SAM, UsualSAM)) or type(optimizer).__name__ == "SAM"
        if device != "cpu":
            torch.cuda.synchronize()
        began = clock()
        step: Callable[..., Any] = optimizer.step
        step(closure) if two_passes else step()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - began

    optimizers = {name: factory(params) for name, factory in candidates().items()}
    first = {name: seconds(optimizer) for name, optimizer in optimizers.items()}
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for i in range(rounds + 3):
        torch._foreach_neg_(grads)  # so that the weights stay bounded
        for name, optimizer in optimizers.items():
            taken = seconds(optimizer)
            if i >= 3:  # the first rounds create states and fill caches
                times[name].append(taken)
    return times, first


def report(network: str, device: str, times: dict[str, list[float]], first: dict[str, float]) -> Table:
    """Return a table of each optimizer's times and ratios."""
    table = Table(title=f"{network}, {device}, {torch.get_num_threads()} threads, {len(times[BASE])} rounds")
    for column in ("optimizer", "ms", "ratio", "quartiles", "first step, s"):
        table.add_column(column, justify="left" if column == "optimizer" else "right")
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times[BASE], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        milliseconds = f"{1000 * statistics.median(values):.2f}"
        table.add_row(name, milliseconds, f"{median:.2f}", f"{low:.2f} to {high:.2f}", f"{first[name]:.1f}")
    return table


def compare(
    networks: tuple[Literal["resnet20", "resnet50"], ...] = ("resnet20", "resnet50"),
    rounds: int = 25,
    threads: int | None = None,
    device: str = "cpu",
    clock: Literal["wall", "process"] = "wall",
    results: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time a step of each optimizer.

    Args:
        networks: Networks whose parameters are stepped.
        rounds: Number of timed steps of each optimizer, at least 2.
        threads: Number of CPU threads; torch's default if not given.
        device: `cpu` or `cuda`.
        clock: `wall` for elapsed time; `process` for this process's CPU time, which other programs on the machine
            disturb less (one thread only).
        results: JSON file to write the tables to, such as results/NAME.json.

    Returns:
        For each network, the median ratio of each optimizer's time to that of Adam(fused=True).
    """
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, found {rounds}")
    if threads is not None:
        torch.set_num_threads(threads)
    if clock == "process" and (device != "cpu" or torch.get_num_threads() != 1):
        raise ValueError(f"clock=process needs one CPU thread, found {torch.get_num_threads()} on {device}")
    result: dict[str, dict[str, float]] = {}
    tables = []
    for network in networks:
        times, first = measure(network, rounds, device, time.perf_counter if clock == "wall" else time.process_time)
        tables.append(report(network, device, times, first))
        Console(width=120).print(tables[-1])
        result[network] = {
            name: statistics.median(value / base for value, base in zip(values, times[BASE], strict=True))
            for name, values in times.items()
        }
    write_record(results, tables)
    return result


def main(args: list[str] | None = None) -> dict[str, dict[str, float]]:
    return auto_cli(compare, args=args)


if __name__ == "__main__":
    main()
