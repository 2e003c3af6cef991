"""Learning rates by depth: parameter groups for the layers of a network, and schedules that keep their rates apart."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR

from .head import head_names
from .layers import layers_of

_PEAKS = ("initial_lr", "max_lr", "min_lr")


class LayerRates:
    """Divides the parameter groups of a module's `backbone` by their learning rates.

    Of n layers (`layers_of`), layer i = 0, ..., n - 1 has `layer_decay ** (n - 1 - i)` times the optimizer's rate, as
    in BEiT (Bao et al. 2021) and timm: the head, layer n - 1, has the whole rate, or `head_lr`. A group has its factor
    as `lr_scale`, a rate of its own as `own_lr`, and a name. Parameters outside `backbone` have the optimizer's rate.

    Args:
        module: The module.
        layer_decay: Factor from one layer to the layer before it, in (0, 1]. None: 1, in one group.
        head_lr: Rate of the head, greater than 0. None: the optimizer's.

    Raises:
        ValueError: If an argument is out of range, or the network has one layer only.

    >>> module = torch.nn.Module()
    >>> module.backbone, module.num_classes = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)), 3
    >>> groups = LayerRates(module, 0.5, head_lr=1.0).split(module, list(module.parameters()))
    >>> [(group["name"], group.get("lr_scale"), group.get("lr")) for group in groups]
    [('layer_0', 0.5, None), ('head', None, 1.0)]
    """

    def __init__(self, module: Any, layer_decay: float | None, head_lr: float | None) -> None:
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], found {layer_decay}")
        if head_lr is not None and not 0 < head_lr < float("inf"):
            raise ValueError(f"head_lr must be finite and greater than 0, found {head_lr}")
        self.layer_decay, self.head_lr = layer_decay, head_lr
        layers = layers_of(module.backbone, module.num_classes)
        self.count = len(layers)
        if self.count < 2:
            name = "layer_decay" if layer_decay is not None else "head_lr"
            raise ValueError(f"{name}: {type(module.backbone).__name__} has one layer only: leave it out")
        self._layer = {f"backbone.{name}": place for place, layer in enumerate(layers) for name in layer}
        self._head = {f"backbone.{name}" for name in head_names(module.backbone, module.num_classes)}

    def split(self, module: torch.nn.Module, params: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the groups for the parameters or groups of an optimizer: the head first, unless it has its own rate.

        Raises:
            ValueError: If the head shall have a rate of its own, and other groups have taken its parameters.
        """
        names = {param: name for name, param in module.named_parameters()}
        groups = params if params and isinstance(params[0], dict) else [{"params": list(params)}]
        made: dict[str, dict[str, Any]] = {}
        for group in groups:
            for param in group["params"]:
                options = self._options(names[param])
                if "weight_decay" in group:
                    options |= {"name": f"{options['name']}_no_decay", "weight_decay": group["weight_decay"]}
                made.setdefault(options["name"], {"params": [], **options})["params"].append(param)
        if self.head_lr is not None and not any("lr" in group for group in made.values()):
            raise ValueError(
                "head_lr: parameter_groups or requires_grad=False take all of the head: leave one of them out"
            )
        return sorted(made.values(), key=lambda group: ("lr" in group, -group.get("lr_scale", 1.0)))

    def _options(self, name: str) -> dict[str, Any]:
        if name in self._head and self.head_lr is not None:
            return {"name": "head", "lr": self.head_lr}
        layer = self._layer.get(name)
        if self.layer_decay is None or layer is None:
            return {"name": "backbone" if layer is not None else "others"}
        place = "head" if layer == self.count - 1 and self.head_lr is None else f"layer_{layer}"
        return {"name": place, "lr_scale": self.layer_decay ** (self.count - 1 - layer)}


def layer_rates(module: Any, layer_decay: float | None, head_lr: float | None) -> LayerRates | None:
    """Return the rates by depth of a module, or None if all layers have the same."""
    return None if layer_decay is None and head_lr is None else LayerRates(module, layer_decay, head_lr)


def set_rates(optimizer: Optimizer, asked: Sequence[dict[str, Any]]) -> None:
    """Scale the rates of an optimizer's groups, and note which groups have a rate of their own.

    Args:
        optimizer: The optimizer.
        asked: The groups that it was made of, without its defaults.

    Raises:
        ValueError: If the optimizer has no learning rate, or other groups.
    """
    if not any("lr" in one or "lr_scale" in one for one in asked):
        return
    if "lr" not in optimizer.defaults:
        raise ValueError(
            f"layer_decay, head_lr and lr in parameter_groups need a learning rate, {type(optimizer).__name__} has "
            "none: leave them out, or take another optimizer"
        )
    if [len(group["params"]) for group in optimizer.param_groups] != [len(one.get("params", ())) for one in asked]:
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} was built without the groups of layer_decay, head_lr or "
            "parameter_groups: give its class, or a partial"
        )
    for group, one in zip(optimizer.param_groups, asked, strict=True):
        if "lr" in one:
            group["own_lr"] = one["lr"]
            # All groups of an optimizer have a number, or all a tensor, which a CUDA graph reads.
            common = optimizer.defaults["lr"]
            group["lr"] = torch.full_like(common, one["lr"]) if isinstance(common, Tensor) else one["lr"]
        elif "lr_scale" in one:
            group["lr"] = group["lr"] * one["lr_scale"]


def rate_of(group: dict[str, Any], common: float) -> float:
    """Return the rate of a group where the optimizer's is `common`.

    >>> rate_of({"lr_scale": 0.5}, 0.1), rate_of({"own_lr": 0.3}, 0.1), rate_of({}, 0.1)
    (0.05, 0.3, 0.1)
    """
    own = group.get("own_lr")
    return float(own) if own is not None else common * group.get("lr_scale", 1.0)


def keep_apart(optimizer: Optimizer, schedulers: Iterable[LRScheduler]) -> None:
    """Give each group its own peak where `OneCycleLR` or `CyclicLR` has given all groups the same one."""
    groups = optimizer.param_groups
    if not any("lr_scale" in group or "own_lr" in group for group in groups):
        return
    for part in schedulers:
        if isinstance(part, OneCycleLR):
            peaks = [float(group["max_lr"]) for group in groups]
        elif isinstance(part, CyclicLR):
            peaks = [float(peak) for peak in part.max_lrs]
        else:
            continue
        if len(set(peaks)) > 1:  # given for each group
            continue
        ratios = [rate_of(group, peak) / peak for group, peak in zip(groups, peaks, strict=True)]
        if len({float(group["lr"]) for group in groups}) == 1:  # the present rates are this scheduler's
            _multiply(groups, ratios, ("lr",))
        if isinstance(part, CyclicLR):
            part.max_lrs = [peak * ratio for peak, ratio in zip(part.max_lrs, ratios, strict=True)]
        else:
            _multiply(groups, ratios, _PEAKS)
        part.base_lrs = [rate * ratio for rate, ratio in zip(part.base_lrs, ratios, strict=True)]


def spread(scheduler: Any) -> None:
    """Set the rates of the groups where Lightning's learning rate finder has given all of them the same one."""
    if not isinstance(scheduler, LRScheduler) or "tuner" not in type(scheduler).__module__.split("."):
        return
    for group in scheduler.optimizer.param_groups:
        if "lr_scale" in group or "own_lr" in group:
            group["lr"] = rate_of(group, float(scheduler.lr[0]))  # type: ignore[attr-defined]  # of the finder's


def _multiply(groups: Sequence[dict[str, Any]], ratios: Sequence[float], names: Iterable[str]) -> None:
    for group, ratio in zip(groups, ratios, strict=True):
        for name in names:
            if group.get(name) is not None:
                group[name] = group[name] * ratio
