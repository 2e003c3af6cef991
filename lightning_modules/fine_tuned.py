"""A module of which a callback freezes and unfreezes parts while it is trained."""

import gc
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import BackboneFinetuning, BaseFinetuning
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .added_groups import cover, rates, rescale
from .callbacks.freezing import Freezing, freezing
from .head import head_of
from .layer_rates import LayerRates, layer_rates, spread
from .optimization import has_finder


class FineTuned(LightningModule):
    """Lets callbacks such as Lightning's `BaseFinetuning` unfreeze layers in mid-training, with any schedule.

    - The schedule covers a group that is added to the optimizer: its rate then follows that of the first group, in the
      ratio in which they are when it is added. A rate that a callback sets later changes the ratio.
    - A checkpoint has, under `fine_tuning`, the names of the parameters in each group, and what is frozen; a resumed
      training has the same groups before the optimizer is restored, and trains what was trained.
    - `BackboneFinetuning` freezes all of `backbone` but the head (`head_of`), which is a part of it here.
    - Under DDP, whose processes add up the gradients of what was trainable when it was made, it is made again.
    """

    backbone: nn.Module
    num_classes: int
    _tuning: dict[str, Any] | None = None  # of a checkpoint
    _first_groups = 0  # number of groups that the optimizer was made with
    _covered = 0
    _rates: list[float] | None = None  # of the groups that were added
    _trained: frozenset[str] = frozenset()
    _freezing: Freezing | None = None
    """Callback that freezes parts as a function of the epoch, which no checkpoint has to hold."""
    _layers: LayerRates | None = None
    """Learning rates by depth."""

    def _fine_tune(
        self,
        freeze: bool | str | None,
        unfreeze: int | None,
        train_bn: bool,
        layer_decay: float | None,
        head_lr: float | None,
    ) -> None:
        """Freeze parts of the network, and divide it by learning rates; see `Freezing` and `LayerRates`."""
        self._freezing = freezing(self, freeze, unfreeze, train_bn)
        self._layers = layer_rates(self, layer_decay, head_lr)

    def _all_parts(self) -> AbstractContextManager[None]:
        """Return a context in which frozen parts are trainable, for an optimizer that is to hold them."""
        return nullcontext() if self._freezing is None else self._freezing.lifted(self)

    def setup(self, stage: str) -> None:
        """Leave the head, a part of `backbone`, out of what `BackboneFinetuning` has frozen."""
        super().setup(stage)
        if any(isinstance(one, BackboneFinetuning) for one in vars(self.trainer)["callbacks"]):
            for layer in head_of(self.backbone, self.num_classes):
                layer.requires_grad_(True)

    def on_fit_start(self) -> None:
        """Add the groups that a checkpoint has, before Lightning restores optimizer and schedule.

        After a search, whose steps they have counted, both are built again.
        """
        super().on_fit_start()
        self._trained = self._trainable()  # when DDP was made
        if has_finder(self.trainer):
            self.trainer.strategy.setup_optimizers(self.trainer)
        self._covered, self._rates, tuning = 0, None, self._tuning
        if tuning is not None and len(self.trainer.optimizers) == 1:
            self._first_groups = tuning["first_groups"]
            self._restore(tuning, self.trainer.optimizers[0])
            self._rates = tuning["rates"]
        elif self.trainer.optimizers:
            self._first_groups = len(self.trainer.optimizers[0].param_groups)
        for config in self.trainer.lr_scheduler_configs:
            cover(config.scheduler)
        self._tuning = None

    def on_train_start(self) -> None:
        """Make DDP again if something else is trained than when it was made, as after a resume."""
        super().on_train_start()
        self._synchronise_trained()
        for config in self.trainer.lr_scheduler_configs:
            spread(config.scheduler)

    def on_train_epoch_start(self) -> None:
        """Make DDP again if something else is trained than before."""
        super().on_train_epoch_start()
        self._synchronise_trained()

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a scheduler that covers all groups."""
        if isinstance(scheduler, LRScheduler):
            self._follow(scheduler)
        super().lr_scheduler_step(scheduler, metric)
        spread(scheduler)
        if isinstance(scheduler, LRScheduler) and self._covered > self._first_groups:
            self._rates = rates(scheduler.optimizer, self._first_groups)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save which parameters are in which group, and what is frozen."""
        super().on_save_checkpoint(checkpoint)
        optimizers, frozen = self.trainer.optimizers, [n for n, p in self.named_parameters() if not p.requires_grad]
        frozen = [name for name in frozen if self._freezing is None or name not in self._freezing.names]
        if len(optimizers) == 1 and (frozen or len(optimizers[0].param_groups) > self._first_groups):
            names = {param: name for name, param in self.named_parameters()}
            untracked = [n for n, m in self.named_modules() if isinstance(m, _BatchNorm) and not m.track_running_stats]
            checkpoint["fine_tuning"] = {
                "first_groups": self._first_groups,
                "groups": [[names[p] for p in group["params"]] for group in optimizers[0].param_groups],
                "frozen": frozen,
                "untracked": untracked,
                "rates": self._rates,
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a checkpoint says of its groups until the optimizer is there."""
        super().on_load_checkpoint(checkpoint)
        self._tuning = checkpoint.get("fine_tuning")
        if self._tuning is not None:
            states = checkpoint.get("optimizer_states") or [{"param_groups": []}]
            self._tuning = {**self._tuning, "options": states[0]["param_groups"]}

    def _synchronise_trained(self) -> None:
        before, self._trained = self._trained, self._trainable()
        if self._trained != before:
            _wrap_again(self.trainer, self)

    def _trainable(self) -> frozenset[str]:
        return frozenset(name for name, param in self.named_parameters() if param.requires_grad)

    def _restore(self, tuning: dict[str, Any], optimizer: Optimizer) -> None:
        params, has = dict(self.named_parameters()), len(optimizer.param_groups)
        if set(params) >= {name for group in tuning["groups"] for name in group}:
            held = {p for group in optimizer.param_groups for p in group["params"]}
            for names, options in list(zip(tuning["groups"], tuning["options"], strict=False))[has:]:
                group = [params[name] for name in names]
                if held.isdisjoint(group):
                    optimizer.add_param_group({"params": group, **{k: v for k, v in options.items() if k != "params"}})
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.requires_grad_(True)
        for name in tuning["frozen"]:
            if name in params:
                params[name].requires_grad_(False)
        if any(isinstance(one, BaseFinetuning) for one in vars(self.trainer)["callbacks"]):
            for name, module in self.named_modules():
                if isinstance(module, _BatchNorm):  # which Lightning's callback switches
                    module.track_running_stats = name not in tuning["untracked"]

    def _follow(self, scheduler: LRScheduler) -> None:
        """Let a scheduler cover the groups of today, with the rates that callbacks have given them."""
        optimizer = scheduler.optimizer
        count = len(optimizer.param_groups)
        if count != self._covered:
            cover(scheduler)
            self._covered = count
        if count > self._first_groups:
            for place, rate in enumerate(self._rates or [], self._first_groups):
                now = float(optimizer.param_groups[place]["lr"])
                if rate and now and now != rate:
                    rescale(scheduler, place, now / rate)


def _wrap_again(trainer: pl.Trainer, module: LightningModule) -> None:
    """Let DDP add up the gradients of all that is trained now: it has chosen them when it was made."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = module
        gc.collect()  # the hooks of the old one end with it
        strategy.configure_ddp()
