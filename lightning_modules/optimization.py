"""The classifier's optimizer, learning rate schedule and weight penalty."""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from .layer_rates import LayerRates, keep_apart, set_rates
from .linear_decay import LinearDecay
from .named_groups import named_groups
from .runs.unsaved_state import steps_per_epoch
from .schedule import Schedule

DEFAULT_LR = 5e-3
DEFAULT_WEIGHT_DECAY = 0.05
# First and last learning rate of the cycle, relative to its peak.
START = 1 / 25
END = START / 1e4


def default_optimizer(params: list[Any]) -> Optimizer:
    """Build AdamW (Loshchilov and Hutter 2019), the optimizer of `optimizer=None`.

    Args:
        params: Result of `parameter_groups`.
    """
    first = params[0]["params"][0] if isinstance(params[0], dict) else params[0]
    optimizer = AdamW(params, lr=DEFAULT_LR, weight_decay=DEFAULT_WEIGHT_DECAY)
    # On the CPU torch's default is a loop over the tensors, five times slower; for a GPU see `fuse_on_cuda`.
    for group in optimizer.param_groups if first.is_cpu else ():
        group["fused"] = True
    return optimizer


def fuse_on_cuda(optimizer: Optimizer) -> None:
    """Let SGD, Adam and AdamW take torch's fused step on CUDA wherever the user has not chosen another one.

    torch's default there is the step of several launches, in which AdamW reads 118 counters back for ResNet-20. Set in
    the groups, and not given to the constructor: Lightning refuses to clip gradients that the optimizer unscales.

    >>> optimizer = AdamW(nn.Linear(2, 1).parameters())
    >>> fuse_on_cuda(optimizer)
    >>> optimizer.param_groups[0]["fused"] is None  # on the CPU
    True
    """
    base: Any = getattr(optimizer, "base_optimizer", optimizer)
    if type(base) not in (SGD, Adam, AdamW):
        return
    for group in base.param_groups:
        chosen = group.get("fused") is not None or group.get("foreach") is not None or group.get("differentiable")
        on_cuda = all(param.is_cuda and param.is_floating_point() for param in group["params"])
        if on_cuda and not chosen and not isinstance(group["lr"], Tensor):
            group["fused"] = True


def default_scheduler(optimizer: Optimizer, total_steps: Callable[[], float]) -> LambdaLR:
    """Build the schedule of `lr_scheduler=None`: one cycle over the whole training, stepped after each optimizer step.

    A function of step and total, not torch's `OneCycleLR`, which keeps its total in the checkpoint and refuses to
    continue when a run is resumed with more epochs.

    Args:
        optimizer: The optimizer; its learning rates are the peaks.
        total_steps: Returns the number of optimizer steps of the whole training. It is called after the first step
            only: Lightning sets up the training data to count them, and doing so before a checkpoint is restored
            would lose the loader's position.

    Returns:
        The scheduler. Its first step after an optimizer step raises a ValueError if the number is not finite.
    """
    total = functools.cache(lambda: _finite(total_steps()))

    # A function, which the scheduler leaves out of its state, not an object, whose attributes it would save.
    def factor(step: int) -> float:
        return START if step == 0 else one_cycle(step, total=total())

    return LambdaLR(optimizer, factor)


def one_cycle(step: int, *, total: int, warmup: float = 0.3) -> float:
    """Return the learning rate relative to its peak (Smith and Topin 2018), with cosine parts as in `OneCycleLR`.

    Args:
        step: Number of steps taken, from 0; beyond the last step the rate stays at its end.
        total: Number of steps of the cycle.
        warmup: Share of the steps in which the rate rises.

    Returns:
        A factor in (0, 1].

    >>> [round(one_cycle(step, total=11, warmup=2 / 11), 2) for step in (0, 1, 6, 10)]
    [0.04, 1.0, 0.41, 0.0]
    """
    peak, last = warmup * total - 1, total - 1
    if step == 0 or step < peak:
        return _cosine(START, 1.0, step / peak if step else 0.0)
    return _cosine(1.0, END, min((step - peak) / (last - peak), 1.0))


def _finite(total_steps: float) -> int:
    if not 0 <= total_steps < math.inf:  # -1 where a loader has no length
        raise ValueError(
            "the default one-cycle schedule needs a finite number of training steps: "
            "set the Trainer's max_steps, or give an optimizer (and a lr_scheduler)"
        )
    return int(total_steps)


def _cosine(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def with_schedule(
    optimizer: Optimizer,
    make: Callable[[Optimizer], LRScheduler],
    interval: str | None,
    trainer: Callable[[], Trainer] | None = None,
) -> Any:
    """Return an optimizer and its schedule in the form that Lightning takes.

    Args:
        optimizer: The optimizer.
        make: Factory of the scheduler.
        interval: Whether the scheduler counts epochs or steps. None: steps for `LinearDecay`, `OneCycleLR` and
            `CyclicLR`, whose arguments are numbers of steps, and for a scheduler that contains one of them, such as a
            `SequentialLR`; epochs for all others. A `Schedule` always counts steps.
        trainer: Returns the Trainer, whose number of steps a `Schedule` needs.
    """
    scheduler = make(optimizer)
    if scheduler.optimizer is not optimizer:
        raise ValueError("lr_scheduler: it was built for another optimizer: give its class, or a partial")
    parts = schedulers_in(scheduler)
    keep_apart(optimizer, parts)
    by_step = any(isinstance(part, OneCycleLR | CyclicLR | LinearDecay | Schedule) for part in parts)
    chosen = interval or ("step" if by_step else "epoch")
    for part in parts:
        if isinstance(part, Schedule):
            chosen = "step"
            if trainer is not None:
                part.bind(functools.partial(_lengths, trainer))
    config: dict[str, Any] = {"scheduler": scheduler, "interval": chosen}
    if isinstance(scheduler, ReduceLROnPlateau):
        config["monitor"] = getattr(scheduler, "monitor", "val/nll")
    return {"optimizer": optimizer, "lr_scheduler": config}


def schedulers_in(scheduler: LRScheduler) -> list[LRScheduler]:
    """Return a scheduler and those that it is composed of, at any depth.

    torch has no common way to ask for them: they are what the scheduler holds, in an attribute or in a list.

    >>> from torch.optim.lr_scheduler import SequentialLR
    >>> optimizer = SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    >>> parts = [OneCycleLR(optimizer, 0.1, total_steps=9, cycle_momentum=False), LambdaLR(optimizer, lambda _: 1.0)]
    >>> [type(part).__name__ for part in schedulers_in(SequentialLR(optimizer, parts, [9]))]
    ['SequentialLR', 'OneCycleLR', 'LambdaLR']
    """
    found: list[LRScheduler] = [scheduler]
    for one in found:  # which grows
        for value in vars(one).values():
            held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            found += [part for part in held if isinstance(part, LRScheduler) and part not in found]
    return found


def parameter_groups(module: nn.Module, no_decay_on_1d: bool, without: Collection[Tensor] = ()) -> list[Any]:
    """Return the trainable parameters for an optimizer.

    Args:
        module: The network.
        no_decay_on_1d: Whether tensors with fewer than two dimensions (biases, norm scales, parameters of activations)
            get a group of their own with `weight_decay=0`.
        without: Parameters to leave out.

    Returns:
        A list of tensors, or of one or two group dictionaries.
    """
    params = [param for param in module.parameters() if param.requires_grad and param not in without]
    if not no_decay_on_1d:
        return params
    groups: list[dict[str, Any]] = [
        {"params": [param for param in params if param.ndim >= 2]},
        {"params": [param for param in params if param.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    make: Callable[..., Optimizer],
    module: nn.Module,
    no_decay_on_1d: bool,
    lr: float | None = None,
    wanted: Sequence[Mapping[str, Any]] = (),
    layers: LayerRates | None = None,
) -> Optimizer:
    """Build the optimizer of a network.

    Args:
        make: Factory, called with the parameters or groups.
        module: The network.
        no_decay_on_1d: See `parameter_groups`.
        lr: Learning rate of all groups that have none of their own; None keeps that of the factory.
        wanted: Groups with options of their own; see `named_groups`.
        layers: Rates of the others by their layer.

    Raises:
        ValueError: If the network has no trainable parameter, `no_decay_on_1d` is set for an optimizer without weight
            decay, or `make` returns no optimizer of the network.
    """
    groups = named_groups(module, wanted)
    params = parameter_groups(module, no_decay_on_1d, {param for group in groups for param in group["params"]})
    if layers is not None:
        params = layers.split(module, params)
    elif groups and params and not isinstance(params[0], dict):
        params = [{"params": params}]
    params += groups
    if not params:
        raise ValueError("the network has no parameter with requires_grad=True: there is nothing to train")
    asked = [dict(one) if isinstance(one, dict) else {} for one in params]  # an optimizer adds its defaults to `params`
    optimizer = make(params)
    own = set(module.parameters())
    if not isinstance(optimizer, Optimizer) or not all(p in own for g in optimizer.param_groups for p in g["params"]):
        raise ValueError(
            f"optimizer: expected a torch.optim.Optimizer of the network's parameters, found {type(optimizer).__name__}"
            f"{' of other parameters' if isinstance(optimizer, Optimizer) else ''}: give its class, or a partial"
        )
    if no_decay_on_1d and not all("weight_decay" in group for group in optimizer.param_groups):
        raise ValueError(
            f"no_decay_on_1d needs an optimizer with weight_decay, {type(optimizer).__name__} has none: drop the option"
        )
    for group, options in zip(optimizer.param_groups, asked, strict=False) if lr is not None else ():
        if "lr" not in options:
            group["lr"] = lr
    set_rates(optimizer, asked)
    fuse_on_cuda(optimizer)
    return optimizer


def _lengths(trainer: Callable[[], Trainer]) -> tuple[float, int | None]:
    return trainer().estimated_stepping_batches, steps_per_epoch(trainer())


def has_finder(trainer: Trainer) -> bool:
    """Return whether a callback searches for a learning rate or a batch size before training."""
    return any(isinstance(one, LearningRateFinder | BatchSizeFinder) for one in vars(trainer)["callbacks"])


def penalty(module: nn.Module, l1: float, l2: float) -> Tensor | float:
    """Return `l1 * sum |w| + l2 * sum w^2` over the trainable tensors with at least two dimensions.

    Weight matrices and kernels are penalised; biases and norm scales are not.

    Args:
        module: The network.
        l1: Weight of the absolute values.
        l2: Weight of the squares (no factor 1/2: its gradient is `2 * l2 * w`).

    Returns:
        A 0-d tensor with a graph, or 0.0 if both weights are zero.
    """
    total: Tensor | float = 0.0
    for weight in module.parameters() if l1 or l2 else ():
        if weight.requires_grad and weight.ndim >= 2:
            if l1:
                total = total + l1 * weight.abs().sum()
            if l2:
                total = total + l2 * weight.square().sum()
    return total
