"""Where the measurements are made: device, versions, peers; and the images, decoded."""

import datetime
import importlib.metadata
import os
import platform
from typing import Any

import torch

from .rows import Bench

VERSIONS = ("torch", "triton", "pytorch-lightning", "numpy", "timm", "torchvision", "scikit-learn")
PEERS = ("pytorch-optimizer", "torch-optimizer", "parameterfree", "flash-kmeans", "faiss-cpu", "faiss-gpu", "spocu")


def version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def run(bench: Bench) -> None:
    """Append the environment, then decode the images into their cache."""
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
    if bench.data is not None:
        from .data import images_module  # which needs more than torch

        module = images_module(bench, batch_size=1)
        module.setup("fit")
        count = len(module.part_indices("train"))
        bench.row("environment", "images", count=count, shape=list(module.image_shape), classes=module.num_classes)
