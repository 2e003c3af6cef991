"""One training step of resnet20: by hand, by scripts/train.py, by the usual idiom. Timed first, then traced."""

import functools
import gc
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch

from ..clocked import QUICK, Clocked, Plan
from ..data import Batch, forever, image_count, loader, ready_batches
from ..loops import Setting, eager, graphed
from ..rows import Bench, Row
from ..trainers import idiom, ours, usual_loader

SGD = ("--optimizer", "SGD", "--optimizer.lr", "0.1", "--optimizer.momentum", "0.9")
OPTIMIZERS = {
    "AdamW": ("--optimizer", "AdamW"),
    "LAMB": ("--optimizer", "LAMB"),
    "COCOB": ("--optimizer", "COCOB"),
    "Muon": ("--optimizer", "Muon"),
    "SAM(SGD)": ("--optimizer", "SAM"),
    "EMA": (*SGD, "--model.ema_decay", "0.99"),
}


class Variant(NamedTuple):
    """A way to train, and the batches that it gets."""

    name: str
    loop: Callable[[Setting, Clocked], None]
    batches: str = "ours"  # from our loader; "ready" on the device; "usual": from a DataLoader
    cudnn_benchmark: bool = False  # before it starts
    traces: bool = False
    cuda_only: bool = False
    extra: bool = False  # measured if time is left


def variants() -> list[Variant]:
    """Return what is measured, the most wanted first."""
    return [
        Variant("by hand, eager", eager, "ready", cudnn_benchmark=True, traces=True),
        Variant("by hand, captured", graphed, "ready", cudnn_benchmark=True, traces=True, cuda_only=True),
        Variant("train.py, SGD", partial(ours, SGD), traces=True),  # captured, and channels-last, by default
        Variant(
            "train.py, SGD, compiled", partial(ours, (*SGD, "--model.compile", "true")), traces=True, cuda_only=True
        ),
        Variant("train.py, SGD, not captured", partial(ours, (*SGD, "--model.cuda_graph", "false")), traces=True),
        Variant("usual idiom, DataLoader", idiom, "usual", traces=True),
        *(Variant(f"train.py, {name}", partial(ours, words), traces=True) for name, words in OPTIMIZERS.items()),
        Variant("by hand, eager, no cudnn.benchmark", eager, "ready", extra=True),
        Variant("by hand, eager, our loader", eager, cudnn_benchmark=True, extra=True),
        *(
            Variant(
                f"train.py, SGD, cudnn.benchmark {flag}", partial(ours, (*SGD, "--trainer.benchmark", flag)), extra=True
            )
            for flag in ("true", "false")
        ),
        Variant(
            "train.py, SGD, channels_last false", partial(ours, (*SGD, "--model.channels_last", "false")), extra=True
        ),
    ]


class Batches:
    """The batches of a setting; the images are read once."""

    def __init__(self, bench: Bench, setting: Setting) -> None:
        self.bench, self.setting = bench, setting

    @functools.cached_property
    def loader(self) -> Any:
        """Return our loader."""
        return loader(self.bench, self.setting.batch)

    @functools.cached_property
    def ready(self) -> list[Batch]:
        """Return batches on the device, in channels-last format."""
        return ready_batches(self.loader)

    def get(self, kind: str) -> Iterator[Batch]:
        """Return an endless iterator over batches of a kind."""
        if kind == "usual":
            workers = 0 if self.bench.quick else min(8, os.cpu_count() or 1)
            return forever(usual_loader(self.setting, workers, image_count(self.bench)))
        return forever(self.loader) if kind == "ours" else itertools.cycle(self.ready)


def measure(bench: Bench, setting: Setting, batches: Batches, variant: Variant, plan: Plan, traces: bool) -> Row:
    """Train by a variant and return what its batches measured."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = variant.cudnn_benchmark
    try:
        clocked = Clocked(batches.get(variant.batches), bench.device, plan, traces)
        variant.loop(setting, clocked)
        return clocked.row(setting.batch)
    finally:
        torch.backends.cudnn.benchmark = before
        gc.collect()  # a Trainer and its module hold each other


def settings(bench: Bench) -> list[Setting]:
    """Return what is trained."""
    if bench.quick:
        return [Setting(8, False, bench.device, "TwoLayerNet")]
    return [Setting(512, True, bench.device), Setting(128, False, bench.device), Setting(2000, True, bench.device)]


def chosen(bench: Bench) -> list[Variant]:
    """Return the variants; of a quick run one of a kind."""
    few = (
        "by hand, eager",
        "by hand, captured",
        "train.py, SGD",
        "train.py, SGD, not captured",
        "usual idiom, DataLoader",
    )
    return [variant for variant in variants() if not bench.quick or variant.name in few]


def run(bench: Bench) -> None:
    """Time every variant, then trace those that are to be traced: tracing may slow down what follows."""
    plan = QUICK if bench.quick else Plan()
    own = {setting: Batches(bench, setting) for setting in settings(bench)}
    core, large = list(own.items())[:2], list(own.items())[2:]
    todo = [(setting, batches, variant) for setting, batches in core for variant in chosen(bench)]
    todo.sort(key=lambda one: one[2].extra)
    todo += [(setting, batches, variant) for setting, batches in large for variant in variants()[:4]]
    for setting, batches, variant in todo:
        function = partial(measure, bench, setting, batches, variant, plan, False)
        # The traces are worth more than what comes last.
        needs = 0.35 * bench.seconds if variant.extra or setting.batch == 2000 else 5
        bench.measure(setting.name, variant.name, function, needs, variant.cuda_only)
    for setting, batches in core:
        for variant in chosen(bench):
            if variant.traces and (bench.cuda or not variant.cuda_only):
                function = partial(measure, bench, setting, batches, variant, plan, True)
                bench.add_trace(setting.name, variant.name, function)
