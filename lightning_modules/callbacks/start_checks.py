"""Checks before the first step: whatever would spoil a training without a word."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning, Callback
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from ..checked_labels import LabelChecks
from ..metrics import direction
from ..optimization import schedulers_in
from ..restoring import restored
from ..schedule import Schedule

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
USUAL_RATES = {"SGD": 0.1, "LAMB": 0.01, "Lamb": 0.01}
"""A usual learning rate of the optimizers whose default, 0.001, is far too small for them."""


class StartChecks(Callback):
    """Checks a training of an `ImageClassifier` before its first step; the classifier adds it by itself.

    It refuses a last batch of one example if the network has batch normalisation that cannot be trained with it, and
    labels without a logit of a loader that holds all of them on a GPU. It warns of a default learning rate that is
    useless, and of a callback or schedule that takes the worst value of a metric for the best. It also lets a
    `Schedule` begin, since the length of the training is known only now.

    >>> trainer = pl.Trainer(callbacks=[StartChecks()], logger=False, enable_checkpointing=False)
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check.

        Raises:
            ValueError: If the last batch has one example and the network cannot be trained with it; for such labels.
        """
        if isinstance(pl_module, LabelChecks):
            pl_module.know_labels(trainer.train_dataloader)
        if last_batch(trainer) == 1 and not trains_with_one(trainer, pl_module):
            raise ValueError(
                "the last batch of an epoch has one example, with which batch normalisation cannot be trained: drop it "
                "by drop_last (--data.drop_last true), or give another batch size"
            )
        for config in trainer.lr_scheduler_configs:
            for part in schedulers_in(config.scheduler):
                if isinstance(part, Schedule):
                    part.begin()
        tuned = any(isinstance(one, BackboneFinetuning) for one in vars(trainer)["callbacks"])
        for optimizer in trainer.optimizers:
            if tuned and "lr" not in optimizer.param_groups[0]:
                raise ValueError(
                    f"BackboneFinetuning needs a learning rate, {type(optimizer).__name__} has none: "
                    "take another optimizer, or leave the callback out"
                )
            warn_of_default_rate(optimizer)
        watched = [one for one in vars(trainer)["callbacks"] if isinstance(getattr(one, "monitor", None), str)]
        for one in watched:
            warn_of_direction(one, one.monitor, pl_module)
        for config in trainer.lr_scheduler_configs:
            warn_of_direction(config.scheduler, config.monitor if config.reduce_on_plateau else None, pl_module)


def last_batch(trainer: pl.Trainer) -> int | None:
    """Return the number of examples in the last batch of an epoch on this process, or None if it is not trained with.

    None too if it is not known: loaders without a length, or with batches of their own.
    """
    loader: Any = trainer.train_dataloader
    try:
        batches = len(loader)
        if hasattr(loader, "bounds"):  # of our data modules, whose processes share each batch
            start, stop = loader.bounds[-1]
            last = int(stop - start)
        else:
            last = len(loader.sampler) - (batches - 1) * loader.batch_size
            last = min(last, loader.batch_size)
    except (TypeError, AttributeError, IndexError):
        return None
    steps = trainer.max_steps * trainer.accumulate_grad_batches
    reached = trainer.num_training_batches >= batches and (trainer.max_steps == -1 or steps >= batches)
    return last if reached else None


def trains_with_one(trainer: pl.Trainer, module: Any) -> bool:
    """Return whether the network can be trained with a batch of one example, found by a forward pass of zeros."""
    network = module.backbone
    plain = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
    if not plain or not any(isinstance(part, NORMS) and part.training for part in network.modules()):
        return True
    images = trainer.precision_plugin.convert_input(torch.zeros(1, *module.image_shape, device=module.device))
    devices = [module.device] if module.device.type == "cuda" else []
    with restored(module), torch.random.fork_rng(devices), torch.no_grad(), trainer.precision_plugin.forward_context():
        try:
            network(images)
        except ValueError as error:
            return "more than 1 value per channel" not in str(error)
    return True


def warn_of_default_rate(optimizer: Any) -> None:
    """Warn if an optimizer, or the base of SAM, has a default learning rate with which it hardly moves."""
    base = getattr(optimizer, "base_optimizer", optimizer)
    name, group = type(base).__name__, base.param_groups[0]
    rate = group.get("initial_lr", group.get("lr"))
    if name in USUAL_RATES and "max_lr" not in group and rate is not None and abs(float(rate) - 1e-3) < 1e-9:
        usual = USUAL_RATES[name]
        rank_zero_warn(
            f"{name} has its default learning rate, 0.001, with which it hardly moves: give one, usually about {usual} "
            f"(--optimizer.lr {usual}, or lr={usual} in Python)"
        )


def warn_of_direction(watcher: Any, metric: str | None, module: Any) -> None:
    """Warn if a callback or a schedule takes the wrong direction of a metric for the better one."""
    mode, better = getattr(watcher, "mode", None), direction(metric or "", module.metrics)
    if mode in ("min", "max") and better is not None and mode != better:
        rank_zero_warn(
            f"{type(watcher).__name__} watches {metric} with mode={mode!r}, but "
            f"{'more' if better == 'max' else 'less'} of it is better: give mode={better!r}"
        )
