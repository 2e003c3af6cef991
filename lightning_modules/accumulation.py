"""The mean over an accumulation window that the end of an epoch makes shorter."""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch.optim import Optimizer


def batches_in_window(trainer: Trainer) -> int:
    """Return how many batches, the current one included, a step at the current batch is made of.

    That is `accumulate_grad_batches`, or fewer at the end of an epoch.
    """
    return int(trainer.fit_loop.batch_idx) % trainer.accumulate_grad_batches + 1


@torch.no_grad()
def make_mean(trainer: Trainer, optimizer: Optimizer) -> None:
    """Make the gradients of a window, before hooks read and clipping changes them, the mean over its batches.

    Lightning divides the loss of each of the k batches of a window by `accumulate_grad_batches` = A. Those of a shorter
    window are multiplied by A / k here. It is a mean of the batches' means: a batch of fewer examples counts as much as
    any other, as in all windows.
    """
    size, full = batches_in_window(trainer), trainer.accumulate_grad_batches
    if size == full or trainer.strategy.handles_gradient_accumulation:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.mul_(full / size)


def as_mean(trainer: Trainer, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
    """Return a closure of an optimizer's step that ends with `make_mean`."""

    def evaluate() -> Any:
        loss = closure()
        make_mean(trainer, optimizer)
        return loss

    return evaluate
