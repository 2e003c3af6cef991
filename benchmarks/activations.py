"""Forward and backward of SPOCU and Hardshrink against torch's and other activations, as ratios to ReLU.

Example: `python benchmarks/activations.py --dtypes '[float32,bfloat16]'`, on a GPU with `--device cuda`.

Every contender runs in every round, in random order (the order decides which memory is reused and which is requested
from the system). The table gives the median over the rounds of the ratio to ReLU in the same round, and the bytes that
autograd saves in addition to the input. On a CPU, `--threads 1 --clock cpu` counts processor time, which excludes other
programs. On CUDA, a round is a replayed graph of forward and backward, that is, the time of the kernels without their
launches; `--clock wall` includes the launches.
"""

import importlib
import importlib.util
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jsonargparse
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

if Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    # Run as a script, this file would be imported as the package whose name it has.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path(__file__).resolve().parent))

from _gpu.timing import replayed

from activations import SPOCU, Hardshrink, _elementwise

Activation = Callable[[Tensor], Tensor]


def plain_spocu(x: Tensor) -> Tensor:
    """Compute SPOCU in plain autograd operations, as its definition reads."""
    z = (x / 4.437 + 0.6653).clamp(min=0)
    return 3.0937 * (z**3 * (z**5 - 2 * z**4 + 2)) - 3.0937 * (0.6653**3 * (0.6653**5 - 2 * 0.6653**4 + 2))


def where_hardshrink(x: Tensor) -> Tensor:
    """Compute an asymmetric Hardshrink in plain autograd operations."""
    return torch.where((x < -0.4) | (x > 0.5), x, torch.zeros_like(x))


def contenders(device: str) -> dict[str, Activation]:
    """Return the compared activations by name."""
    compared: dict[str, Activation] = {
        "nn.ReLU": nn.ReLU(),
        "SPOCU()": SPOCU(),
        "SPOCU(c=1)": SPOCU(c=1.0),
        "Hardshrink(-0.4, 0.5)": Hardshrink(-0.4, 0.5),
        "nn.Hardshrink": nn.Hardshrink(),
        "nn.GELU": nn.GELU(),
        "SPOCU(trainable=True)": SPOCU(trainable=True).to(device),
        "plain autograd SPOCU": plain_spocu,
        "torch.where Hardshrink": where_hardshrink,
    }
    if importlib.util.find_spec("spocu") and device == "cpu":
        peer = importlib.import_module("spocu.spocu_pytorch").SPOCU(3.0937, 0.6653, 4.437)
        compared["PyPI spocu (forward only)"] = peer
    return compared


def saved_bytes(activation: Activation, x: Tensor) -> int:
    """Return the bytes that autograd keeps for the backward, each storage once, without the input."""
    pieces: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        pieces[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with saved_tensors_hooks(note, lambda t: t):
        activation(x)
    pieces.pop(x.untyped_storage().data_ptr(), None)
    return sum(pieces.values())


def timed(
    activation: Activation, x: Tensor, grad: Tensor, clock: Literal["wall", "cpu", "device"]
) -> Callable[[], float]:
    """Return a function that runs forward and backward once and returns the seconds."""

    def step() -> None:
        y = activation(x)
        if y.requires_grad:
            torch.autograd.grad(y, x, grad)

    if clock == "device":
        milliseconds = replayed(step, "cuda")
        return lambda: milliseconds() / 1e3

    now = time.perf_counter if clock == "wall" else time.thread_time

    def run() -> float:
        step()  # frees the memory of the previous contender and allocates its own
        if x.is_cuda:
            torch.cuda.synchronize()
        begin = now()
        step()
        if x.is_cuda:
            torch.cuda.synchronize()
        return now() - begin

    return run


def table(
    dtype: torch.dtype, device: str, rounds: int, clock: Literal["wall", "cpu", "device"], compiled: bool
) -> Table:
    """Return the table of one type."""
    x = torch.randn(64, 64, 32, 32, device=device).to(dtype).requires_grad_()
    grad = torch.randn(64, 64, 32, 32, device=device).to(dtype)
    runs = {}
    saved = {}
    for name, activation in contenders(device).items():
        if name.startswith("PyPI") and dtype == torch.bfloat16:  # numpy has no bfloat16
            continue
        runs[name] = timed(activation, x, grad, clock)
        runs[name]()
        saved[name] = saved_bytes(activation, x)
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            times[name].append(runs[name]())
    relu = times["nn.ReLU"]
    title = (
        f"{str(dtype).removeprefix('torch.')} on {device}, {clock} clock{'' if compiled else ', without a compiler'}"
    )
    made = Table(title=title)
    made.add_column("activation")
    for column in ("ratio to ReLU", "quartiles", "ms", "bytes saved in addition to the input"):
        made.add_column(column, justify="right")
    for name, own in times.items():
        low, ratio, high = statistics.quantiles([a / b for a, b in zip(own, relu, strict=True)], method="inclusive")
        spread, milliseconds = f"{low:.2f} .. {high:.2f}", statistics.median(own) * 1e3
        made.add_row(name, f"{ratio:.2f}", spread, f"{milliseconds:.2f}", f"{saved[name]:,}")
    return made


def compare(
    dtypes: Sequence[Literal["float32", "bfloat16", "float16", "float64"]] = ("float32", "bfloat16"),
    device: Literal["cpu", "cuda"] = "cpu",
    rounds: int = 40,
    threads: int = 2,
    clock: Literal["auto", "wall", "cpu"] = "auto",
    uncompiled: bool = False,
    results: Path | None = None,
) -> None:
    """Print one table for each type.

    Args:
        dtypes: Types of the input, which has 64 x 64 x 32 x 32 elements.
        device: Device of the input.
        rounds: Number of times each contender is timed, at least 2.
        threads: Number of CPU threads.
        clock: wall, cpu (time of one thread), or auto: device time on CUDA, wall on a CPU.
        uncompiled: Run the plain operations that a machine without a compiler uses.
        results: JSON file to write the tables to, such as results/NAME.json.
    """
    from benchmarks._record import load_before, write_record  # other programs import this file for its contenders

    notes = [load_before()]
    torch.set_num_threads(threads)
    if uncompiled:
        _elementwise._uncompilable.update((device, getattr(torch, dtype)) for dtype in dtypes)
    chosen: Literal["wall", "cpu", "device"] = clock if clock != "auto" else "device" if device == "cuda" else "wall"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{threads} threads"
    notes.append(f"torch {torch.__version__}, {where}, {rounds} rounds")
    made = [table(getattr(torch, dtype), device, rounds, chosen, not uncompiled) for dtype in dtypes]
    for one in made:
        Console(width=120).print(one)
    print(*notes, sep="\n")
    write_record(results, made, notes)


def main(args: list[str] | None = None) -> None:
    """Read the command line and compare."""
    jsonargparse.auto_cli(compare, args=args, as_positional=False)


if __name__ == "__main__":
    main()
