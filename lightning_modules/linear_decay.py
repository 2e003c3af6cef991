"""A learning rate that falls to zero, at the end of the training or, for some parameters, before it."""

import functools
from collections.abc import Callable

from pytorch_lightning import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


class LinearDecay(LambdaLR):
    """Lets the learning rate fall in equal steps from the optimizer's to 0, to be stepped after each optimizer step.

    In step t = 0, 1, ... the rate is `lr * max(0, 1 - t / (share * total))`. The share is 1, or what a parameter group
    has as its option `decay_share`: with 3/8 of 8 epochs the group is trained for three, and then keeps its values.

    Args:
        optimizer: The optimizer.
        total: Number of steps of the training, or what returns it, which is called after the first step. Left out, an
            `ImageClassifier` gives that of its Trainer.
        last_epoch: As of all schedulers: number of the last step, -1 to begin.

    Raises:
        ValueError: If a share is not in (0, 1], or `total` is missing or not positive.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    >>> scheduler, rates = LinearDecay(optimizer, total=4), []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.param_groups[0]["lr"], 2))
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [0.4, 0.3, 0.2, 0.1, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total: int | Callable[[], float] | None = None, last_epoch: int = -1):
        if total is None:
            raise ValueError("LinearDecay needs the number of steps: give total")
        steps = functools.cache(total if callable(total) else lambda: total)
        shares = [group.get("decay_share", 1.0) for group in optimizer.param_groups]
        for share in shares:
            if not 0 < share <= 1:
                raise ValueError(f"decay_share must be in (0, 1], found {share}")

        # A function, which the scheduler leaves out of its state, not an object, whose attributes it would save.
        def falling(share: float) -> Callable[[int], float]:
            return lambda step: 1.0 if step == 0 else max(0.0, 1 - step / (share * _positive(steps())))

        super().__init__(optimizer, [falling(share) for share in shares], last_epoch)


def with_total(make: Callable[..., LRScheduler], total: Callable[[], float]) -> Callable[..., LRScheduler]:
    """Return a factory of a scheduler, with the number of steps if it is a `LinearDecay` without one."""
    target, bound = (make.func, make.keywords) if isinstance(make, functools.partial) else (make, {})
    return functools.partial(make, total=total) if target is LinearDecay and bound.get("total") is None else make


def steps_of(module: LightningModule) -> Callable[[], float]:
    """Return what asks a module's Trainer, later, for the number of steps of the training."""
    return lambda: module.trainer.estimated_stepping_batches


def _positive(total: float) -> float:
    if not 0 < total < float("inf"):
        raise ValueError(f"LinearDecay needs a finite number of steps, found {total}: set the Trainer's max_steps")
    return total
