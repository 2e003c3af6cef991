"""Optimizers with modes: one point is trained, another one, their average, is evaluated and saved."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer


def with_modes(optimizers: list[Optimizer]) -> list[Any]:
    """Return those optimizers, or their base optimizers, that have the methods `train` and `eval`.

    >>> with_modes([torch.optim.SGD([torch.zeros(1, requires_grad=True)])])
    []
    """
    bases = [getattr(one, "base_optimizer", one) for one in optimizers]
    return [one for one in bases if callable(getattr(one, "train", None)) and callable(getattr(one, "eval", None))]


class OptimizerModes(Callback):
    """Switches optimizers such as schedule-free AdamW (Defazio et al. 2024) around training, validation and saving.

    They train at one point, to which `optimizer.train()` moves the weights, and evaluate at another, their average, to
    which `optimizer.eval()` does. An `ImageClassifier` adds this callback by itself. With it

    - validation, the test after training and the weights in a checkpoint (its `state_dict`) are those of `eval()`;
    - a checkpoint also holds the weights that are trained (`training_weights`), from which a resumed training continues
      bit for bit, and validation leaves them as they were, where `eval()` and `train()` alone round;
    - after the training the module has the weights of `eval()`.

    Statistics of batch normalisation are those of the trained point. A checkpoint with `save_weights_only` outside a
    validation holds the trained weights. Other optimizers are left alone.

    Memory: a copy of the weights during validation and saving.

    Raises:
        ValueError: At the start of training, if the module averages its weights too (`ema_decay`).

    >>> callback = OptimizerModes()
    """

    def __init__(self) -> None:
        self._trained: dict[str, Tensor] | None = None  # while the weights are those of `eval`
        self._loaded: dict[str, Tensor] | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the trained weights until the training starts."""
        self._loaded = checkpoint.get("training_weights") if trainer.state.fn == "fit" else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move to the trained weights."""
        optimizers = with_modes(trainer.optimizers)
        if optimizers and getattr(pl_module, "ema_decay", None) is not None:
            raise ValueError(
                f"ema_decay averages the weights, as {type(optimizers[0]).__name__} does by itself: leave ema_decay out"
            )
        self._trained, loaded, self._loaded = None, self._loaded, None
        for optimizer in optimizers:
            optimizer.train()
        if optimizers and loaded is not None:
            _set_weights(pl_module, loaded)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move to the average."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._evaluate(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move back to the trained weights."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._train(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average."""
        self._evaluate(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Release the trained weights."""
        self._trained = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the module's weights, and the trained weights beside it."""
        if not with_modes(trainer.optimizers):
            return
        in_training = self._trained is None
        self._evaluate(trainer, pl_module)
        checkpoint["state_dict"].update(_weights(pl_module))
        checkpoint["training_weights"] = self._trained
        if in_training:
            self._train(trainer, pl_module)

    def _evaluate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        optimizers = with_modes(trainer.optimizers)
        if optimizers and self._trained is None:
            self._trained = _weights(module)
            for optimizer in optimizers:
                optimizer.eval()

    def _train(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._trained is not None:
            for optimizer in with_modes(trainer.optimizers):
                optimizer.train()
            _set_weights(module, self._trained)
            self._trained = None


def _weights(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@torch.no_grad()
def _set_weights(module: pl.LightningModule, weights: dict[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(weights[name])
