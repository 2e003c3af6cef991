"""Forward and backward of each activation as a ratio to ReLU, without launches; and resnet20's step with SPOCU."""

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from activations import SPOCU, Hardshrink

from ..data import Batch
from ..loops import Setting, captured_step
from ..rows import Bench, Row
from ..timing import replayed, sample, spread

SUBJECT = Path(__file__).resolve().parents[2] / "activations.py"
RELU = "nn.ReLU"


def contenders(bench: Bench) -> dict[str, Any]:
    """Return the activations that `benchmarks/activations.py` compares, ReLU first."""
    spec = importlib.util.spec_from_file_location("benchmarks_activations", SUBJECT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    every: dict[str, Any] = module.contenders(bench.device)
    return {name: every[name] for name in (RELU, "nn.GELU")} if bench.quick else every


def pair(bench: Bench, base: Callable[[], float], make: Callable[[], Callable[[], float]]) -> Row:
    """Time what `make` returns and `base` in turn; return the spreads of its time and of the ratios."""
    began = time.monotonic()
    own = make()  # compiles and captures
    first = time.monotonic() - began
    times, ratios = [], []
    for _ in range(2 if bench.quick else 30):
        reference, taken = base(), own()
        times.append(taken)
        ratios.append(taken / reference)
    return {"device": spread(times), "device_ratio": spread(ratios), "first_seconds": first}


def elementwise(bench: Bench, every: dict[str, Any], dtype: torch.dtype) -> None:
    """Measure activations, ReLU first, on 64 MiB."""
    images = 2 if bench.quick else 2**26 // (64 * 32 * 32 * dtype.itemsize)
    x = torch.randn(images, 64, 32, 32, device=bench.device).to(dtype).requires_grad_()
    grad = torch.randn(images, 64, 32, 32, device=bench.device).to(dtype)
    size = x.numel() * dtype.itemsize / 2**20
    case = f"forward and backward on {size:.0f} MiB of {str(dtype).removeprefix('torch.')}"

    def runner(activation: Any) -> Callable[[], float]:
        return replayed(lambda: torch.autograd.grad(activation(x), x, grad), bench.device)

    try:
        base = runner(every[RELU])
    except Exception as error:
        bench.failed(case, RELU, error)
        return
    for name, activation in every.items():
        make = (lambda: base) if name == RELU else partial(runner, activation)
        bench.measure(case, name, partial(pair, bench, base, make), needs=6)


def networks(bench: Bench, batch: int, bf16: bool) -> None:
    """Measure a captured step of resnet20 with SPOCU and Hardshrink."""
    backbone = "TwoLayerNet" if bench.quick else "resnet20"
    relu = Setting(batch, bf16, bench.device, backbone)
    case = f"a captured step of {relu.name}"
    if not bench.cuda:
        bench.row(case, "ReLU", skipped="needs CUDA")
        return
    images = torch.randn(batch, 3, 32, 32, device=bench.device).contiguous(memory_format=torch.channels_last)
    example: Batch = images, torch.randint(10, (batch,), device=bench.device)

    def runner(factory: Callable[[], nn.Module]) -> Callable[[], float]:
        replay = captured_step(Setting(batch, bf16, bench.device, backbone, factory), example)
        step = partial(replay, *example)
        return lambda: sample(lambda: [step() for _ in range(5)], bench.device).device / 5

    try:
        base = runner(nn.ReLU)
    except Exception as error:
        bench.failed(case, "ReLU", error)
        return
    factories = {"ReLU": None, "SPOCU(c=1)": partial(SPOCU, c=1.0), "SPOCU()": SPOCU, "Hardshrink()": Hardshrink}
    for name, factory in factories.items():
        make = (lambda: base) if factory is None else partial(runner, factory)
        bench.measure(case, name, partial(pair, bench, base, make), needs=8)


def run(bench: Bench) -> None:
    """Measure the elementwise operations, ours last as they may have to be compiled, then networks of them."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True  # as in the step's part
    try:
        measure_all(bench)
    finally:
        torch.backends.cudnn.benchmark = before


def measure_all(bench: Bench) -> None:
    """Measure all, one after the other."""
    every = contenders(bench)
    plain = {name: every[name] for name in every if not name.startswith(("SPOCU", "Hardshrink"))}
    ours = {RELU: every[RELU], **{name: every[name] for name in every if name not in plain}}
    for some in (plain, ours) if len(ours) > 1 else (plain,):
        for dtype in (torch.float32, torch.bfloat16):
            elementwise(bench, some, dtype)
    for batch, bf16 in ((128, False), (512, True)):
        networks(bench, batch, bf16)
