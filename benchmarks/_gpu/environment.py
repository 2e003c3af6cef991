"""Where the measurements are made: device, versions, peers; and the images, decoded."""

import contextlib
import datetime
import importlib
import importlib.metadata
import os
import platform
import time
from typing import Any

import torch

from .rows import Bench

VERSIONS = ("torch", "triton", "pytorch-lightning", "numpy", "timm", "torchvision", "scikit-learn")
PEERS = (
    "pytorch-optimizer",
    "torch-optimizer",
    "parameterfree",
    "flash-kmeans",
    "faiss-cpu",
    "faiss-gpu",
    "spocu",
    "airbench",
)
HEAVY = (
    "pytorch_lightning",
    "torchmetrics",
    "torchvision",
    "timm",
    "sklearn.cluster",
    "tensorboard",
    "train",
    "pytest",
)


def version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def run(bench: Bench) -> None:
    """Append the environment, import what the parts import, and decode the images into their cache."""
    if bench.cuda and not torch.cuda.is_available():
        raise SystemExit("no CUDA device was found: measure a CPU with --device cpu")
    peers = {name: version(name) for name in PEERS}
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if bench.cuda else "cpu",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "versions": {name: version(name) for name in VERSIONS}
        | {name: value for name, value in peers.items() if value is not None},
        "missing": [name for name, value in peers.items() if value is None],
    }
    bench.row("environment", "environment", **found)
    began = time.monotonic()
    for name in () if bench.quick else HEAVY:  # so that no part pays for reading them from a cold disk
        with contextlib.suppress(Exception):  # the parts that need it report what is missing
            importlib.import_module(name)
    bench.row("environment", "imports", seconds=round(time.monotonic() - began, 1))
    if bench.data is not None:
        from .data import images_module  # which needs more than torch

        module = images_module(bench, batch_size=1)
        module.setup("fit")
        count = len(module.part_indices("train"))
        bench.row("environment", "images", count=count, shape=list(module.image_shape), classes=module.num_classes)
