"""Exponential moving average of the weights, by Lightning's own callback."""

import itertools
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class _Average(AveragedModel):
    """torch's average, moved by one call for all tensors of a kind, and without a wait for the device.

    torch's own reads the number of updates back from the device twice a step, and copies each buffer by itself.
    """

    def __init__(self, model: nn.Module, device: Any, decay: float) -> None:
        super().__init__(model, device, use_buffers=True)
        self.decay = decay
        self.n_averaged = self.n_averaged.cpu()
        self._kinds: list[tuple[list[Tensor], list[Tensor]]] | None = None
        self._is_first = True

    def forget_tensors(self) -> None:
        """Look for the tensors again at the next update."""
        self._kinds = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move floating-point tensors towards those of `model`; copy the others, and all of them the first time."""
        if self._kinds is None:
            for average, tensor in zip(_tensors(self.module), _tensors(model), strict=True):
                _suit(average, tensor)
            self._kinds, self._is_first = _by_kind(_tensors(self.module), _tensors(model)), int(self.n_averaged) == 0
        for averages, tensors in self._kinds:
            if averages[0].dtype != tensors[0].dtype:
                tensors = [tensor.to(averages[0].dtype) for tensor in tensors]
            if averages[0].is_floating_point() and not self._is_first:
                torch._foreach_lerp_(averages, tensors, 1 - self.decay)
            else:
                torch._foreach_copy_(averages, tensors)
        self._is_first = False
        self.n_averaged += 1


def _tensors(module: nn.Module) -> list[Tensor]:
    return list(itertools.chain(module.parameters(), module.buffers()))


def _suit(average: Tensor, tensor: Tensor) -> None:
    """Give an average the memory format of its tensor, which one call for all takes, and at least its precision."""
    dtype = torch.promote_types(average.dtype, tensor.dtype)
    if average.stride() != tensor.stride() or average.dtype != dtype:
        average.data = torch.empty_like(tensor, dtype=dtype).copy_(average)


def _by_kind(averages: list[Tensor], tensors: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    kinds: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for average, tensor in zip(averages, tensors, strict=True):
        both = kinds.setdefault((average.dtype, tensor.dtype, average.device), ([], []))
        both[0].append(average.detach())
        both[1].append(tensor.detach())
    return list(kinds.values())


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
        self.decay = decay
        self._finished = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average when training begins."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._average_model = _Average(pl_module, self._device, self.decay)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the tensors to average, which may have been replaced."""
        if isinstance(self._average_model, _Average):
            self._average_model.forget_tensors()

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
