"""The lines that say what is trained, before the first step."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only
from torch.optim.lr_scheduler import LambdaLR

from _common.console import say
from _common.threads import warn_if_busy
from lightning_modules import Schedule
from lightning_modules.callbacks.freezing import Freezing

DEFAULT_EPOCHS = 1000
"""Lightning's, where no other limit is given."""


class AtStart(Callback):
    """Calls a function when the first step is next: data, network and checkpoint are known to fit."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call it."""
        self.function()


class PrintStart(Callback):
    """Prints network, parameters, data, optimizer, schedule, device and threads of a training.

    Args:
        counts_test: Count the test examples, for which a set may be read.
    """

    def __init__(self, counts_test: bool = True) -> None:
        self.counts_test = counts_test

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print."""
        lines = {
            "network": network(pl_module),
            "pretrained": pretrained(trainer, pl_module),
            "data": data(trainer, self.counts_test),
            "optimizer": optimizer(trainer, pl_module),
            "device": device(trainer),
            "length": length(trainer),
        }
        for name, line in lines.items():
            if not line:
                continue
            rank_zero_only(say)(f"{name:<11} {line}")
        if trainer.strategy.root_device.type == "cpu":
            rank_zero_only(warn_if_busy)()


def length(trainer: Any) -> str:
    """Return how long a training is that is as long as Lightning's default, which is seldom meant; else nothing."""
    if trainer.max_epochs != DEFAULT_EPOCHS or trainer.max_steps != -1:
        return ""
    return f"{DEFAULT_EPOCHS:,} epochs, the default: --trainer.max_epochs N sets another"


def network(module: Any) -> str:
    """Return the network's class, its activation and its number of parameters."""
    parameters = list(module.parameters())
    trained = sum(one.numel() for one in parameters if one.requires_grad)
    total = sum(one.numel() for one in parameters)
    freezing = next((one for one in vars(module.trainer)["callbacks"] if isinstance(one, Freezing)), None)
    until = f" until epoch {freezing.unfreeze}" if freezing is not None and freezing.unfreeze is not None else ""
    some = f" ({trained:,} trained{until})" if trained != total else ""
    return f"{type(module.backbone).__name__}, {total:,} parameters{some}"


def pretrained(trainer: Any, module: Any) -> str:
    """Return the normalisation that timm's trained weights expect, and the data's; empty without such weights."""
    made = module.hparams["backbone"]
    arguments = made.get("init_args", {}) if isinstance(made, dict) else {}
    configs = [getattr(one, "pretrained_cfg", None) for one in module.backbone.modules()]
    config = next((one for one in configs if isinstance(one, dict) and one.get("mean")), None)
    if not arguments.get("pretrained") or config is None:
        return ""
    mean, std = getattr(trainer.datamodule, "mean", None), getattr(trainer.datamodule, "std", None)
    own = f"; the data's are {_numbers(mean)} and {_numbers(std)}" if mean and std else ""
    return f"images were normalised with mean {_numbers(config['mean'])} and std {_numbers(config['std'])}{own}"


def _numbers(values: Any) -> str:
    return ", ".join(f"{float(value):.3g}" for value in values)


def data(trainer: Any, counts_test: bool = True) -> str:
    """Return the numbers of examples of training, validation and, if it `counts_test`, of test."""
    module = trainer.datamodule
    sizes = {}
    for part, loaders in (("train", trainer.train_dataloader), ("val", trainer.val_dataloaders)):
        first = loaders[0] if isinstance(loaders, list) and loaders else loaders
        size = _size(first)
        sizes[part] = f"{size:,} {part}" if size else f"no {part}" if part == "val" and not loaders else ""
    if counts_test and hasattr(module, "part_indices"):  # of our data modules
        sizes["test"] = f"{len(module.part_indices('test')):,} test"
    known = ", ".join(size for size in sizes.values() if size)
    batch = getattr(trainer.train_dataloader, "batch_size", None)
    processes = f" on each of {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{type(module).__name__}: {known}" + (f"; batches of {batch}{processes}" if batch else "")


def optimizer(trainer: pl.Trainer, module: Any) -> str:
    """Return the optimizer, its learning rate, and its schedule."""
    made = trainer.optimizers[0]
    rate = learning_rate(made)
    shown = "no learning rate" if rate is None else f"learning rate {rate:.6g}"
    configs = trainer.lr_scheduler_configs
    if not configs:
        schedule = (
            "constant (--schedule TEXT or --lr_scheduler NAME; the one-cycle schedule belongs to the default optimizer)"
        )
    elif isinstance(configs[0].scheduler, LambdaLR) and module.hparams["lr_scheduler"] is None:
        schedule = "one cycle over the whole training"
    elif isinstance(configs[0].scheduler, Schedule):
        schedule = f"{configs[0].scheduler.text}, over {trainer.estimated_stepping_batches} steps"
    else:
        schedule = f"{type(configs[0].scheduler).__name__}, stepped each {configs[0].interval}"
    layers, head = module.hparams["layer_decay"], module.hparams["head_lr"]
    shown += f", times {layers:g} for each layer below the head" if layers is not None else ""
    shown += f", head {head:g}" if head is not None else ""
    return f"{optimizer_name(made)}, {shown}; schedule: {schedule}"


def optimizer_name(made: Any) -> str:
    """Return the class of an optimizer, and of the one that it is around."""
    base = getattr(made, "base_optimizer", None)
    return type(made).__name__ + (f" around {type(base).__name__}" if base is not None else "")


def learning_rate(made: Any) -> float | None:
    """Return the learning rate of an optimizer, by its first group, which a schedule may have changed; None without."""
    group = made.param_groups[0]
    rate = group.get("max_lr", group.get("initial_lr", group.get("lr")))
    return None if rate is None else float(rate) / group.get("lr_scale", 1.0)


def device(trainer: pl.Trainer) -> str:
    """Return the device of this process, and the threads on a CPU."""
    place = trainer.strategy.root_device
    if place.type == "cuda":
        return f"{place}, {torch.cuda.get_device_name(place)}"
    threads = torch.get_num_threads()
    return f"{place}, {threads} thread{'s' * (threads > 1)}"


def _size(loader: Any) -> int:
    """Return the number of examples of a loader; 0 if it is not known."""
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):
        return 0
