"""Exponential moving average of the weights, by Lightning's own callback."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.trainer.states import TrainerFn


class WeightAverage(EMAWeightAveraging):
    """`EMAWeightAveraging` on the training device, inactive outside of training.

    Validation uses the averaged weights, checkpoints hold them as their `state_dict` (and the current ones as
    `current_model_state`, for an exact resume), and training ends with them. Lightning's class keeps its average on the
    CPU by default, which copies from the GPU at every step, and restores the weights without averaging when the same
    Trainer tests a checkpoint after training.

    Args:
        decay: Share of the old average kept at each step, in (0, 1). The average covers about `1 / (1 - decay)` steps,
            which should be far fewer than the training steps.
        device: Device of the average.
    """

    def __init__(self, decay: float, device: Any) -> None:
        super().__init__(device=device, decay=decay)
        self._finished = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the averaged weights in the module, and keep the current ones for the last checkpoint."""
        self._swap_models(pl_module)
        self._finished = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as `state_dict`, the current weights as `current_model_state`."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._finished:
            average, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current

    def replace_weights(self, checkpoint: dict[str, Any]) -> None:
        """Put the average into a checkpoint that holds weights only."""
        if self._average_model is not None and not self._finished:
            checkpoint["state_dict"] = self._average_model.module.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average when training resumes; otherwise the loaded weights are already the averaged ones."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
