"""Time of a training step with SAM(every=k), as a ratio to its base optimizer's.

    python benchmarks/sam_every.py

Forward and backward passes and the optimizer's step of SmallConvNet on random images. In each round every optimizer
takes `--steps` steps on the same batch, and its time is divided by that of its base in the same round.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._record import write_record
from lightning_modules.backbones import SmallConvNet
from optim import SAM

BASES: dict[str, Callable[..., Optimizer]] = {
    "SGD": partial(SGD, lr=0.01, momentum=0.9, fused=True),
    "Adam": partial(Adam, lr=1e-3, fused=True),
}
PERIODS = (1, 2, 5, 10)


def training(make: Callable[..., Optimizer], images: Tensor, labels: Tensor) -> Callable[[], Any]:
    """Return a function that takes a training step."""
    torch.manual_seed(0)
    network = SmallConvNet(num_classes=10, image_shape=tuple(images.shape[1:]), activation=nn.ReLU)
    optimizer: Any = make(network.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        return loss

    return partial(optimizer.step, closure)


def measure(batch: int, rounds: int, steps: int, clock: Callable[[], float]) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each optimizer in each round, by its base and its name."""
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    trainings: dict[str, dict[str, Callable[[], Any]]] = {}
    for base, make in BASES.items():
        every = {f"SAM({base}, every={k})": partial(SAM, base_optimizer=make, every=k) for k in PERIODS}
        trainings[base] = {name: training(one, images, labels) for name, one in {base: make, **every}.items()}
    times: dict[str, dict[str, list[float]]] = {base: {name: [] for name in own} for base, own in trainings.items()}
    for number in range(rounds + 1):
        for base, own in trainings.items():
            for name, step in own.items():
                began = clock()
                for _ in range(steps):
                    step()
                if number > 0:  # the first round creates states and fills caches
                    times[base][name].append(clock() - began)
    return times


def compare(
    batch: int = 16,
    rounds: int = 15,
    steps: int = 10,
    clock: Literal["wall", "process"] = "wall",
    results: Path | None = None,
) -> dict[str, float]:
    """Time a training step with each optimizer.

    Args:
        batch: Images a batch.
        rounds: Number of timed rounds, at least 2.
        steps: Steps of each optimizer in a round; with 10, each period is measured whole.
        clock: `wall` for elapsed time; `process` for this process's CPU time, which other programs disturb less.
        results: JSON file to write the tables to, such as results/NAME.json.

    Returns:
        The median ratio of each optimizer's time to its base's.
    """
    if min(batch, rounds - 1, steps) < 1:
        raise ValueError(f"batch and steps must be at least 1 and rounds at least 2, found {batch}, {steps}, {rounds}")
    times = measure(batch, rounds, steps, time.perf_counter if clock == "wall" else time.process_time)
    table = Table(title=f"SmallConvNet, batch {batch}, {torch.get_num_threads()} threads, {rounds} rounds")
    for column in ("optimizer", "ms a step", "ratio", "quartiles"):
        table.add_column(column, justify="left" if column == "optimizer" else "right")
    result = {}
    for base, own in times.items():
        for name, values in own.items():
            ratios = [value / other for value, other in zip(values, own[base], strict=True)]
            low, result[name], high = statistics.quantiles(ratios, n=4)
            milliseconds = 1000 * statistics.median(values) / steps
            table.add_row(name, f"{milliseconds:.1f}", f"{result[name]:.2f}", f"{low:.2f} to {high:.2f}")
    Console(width=120).print(table)
    write_record(results, [table])
    return result


def main(args: list[str] | None = None) -> dict[str, float]:
    return auto_cli(compare, args=args)


if __name__ == "__main__":
    main()
