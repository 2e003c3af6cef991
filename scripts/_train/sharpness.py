"""The sharpness of a minimum: the largest eigenvalue of the Hessian of the training loss."""

import copy
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from _common.errors import warn
from _common.hessian import top_eigenvalue

ITERATIONS = 100
TOLERANCE = 1e-2
"""Relative: two minima whose eigenvalues differ by less are called equal."""
METRIC = "train/top_eigenvalue"


def sharpness(model: pl.LightningModule, datamodule: Any, examples: int) -> dict[str, float]:
    """Return the largest eigenvalue of the Hessian of the cross entropy, in evaluation mode and float64.

    The loss is the mean over the first `examples` training images as the loader gives them, with the labels that the
    network was trained on. Power iteration (`top_eigenvalue`) ends at a relative residual of 1e-2, or warns after 100
    steps.
    """
    network = copy.deepcopy(model).double().eval().requires_grad_()
    images, labels = first(datamodule.train_dataloader(), examples, network.device)
    # The inputs of one closure: the loss is computed once, its derivatives in each iteration.
    top = top_eigenvalue(
        lambda: F.cross_entropy(network(images), labels), list(network.parameters()), ITERATIONS, TOLERANCE
    )
    if top.residual > TOLERANCE * abs(top.value):
        warn(f"the top eigenvalue {top.value:.3g} is known only to {top.residual:.1e}")
    return {METRIC: top.value}


def first(loader: Any, examples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first images, in float64, and their labels."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in loader:
        images.append(batch[0])
        labels.append(batch[1])
        if sum(map(len, labels)) >= examples:
            break
    return torch.cat(images)[:examples].to(device).double(), torch.cat(labels)[:examples].to(device)
