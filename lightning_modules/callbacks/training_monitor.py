"""Training curves (loss, learning rate, gradient norm, speed, optimizer scalars) and the stop on a non-finite loss."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from activations import SPOCU

from ..runs.finite import broken_part, has_finite_outputs
from ..runs.loggers import CSVLog
from .speed import Speed


def optimizer_scalars(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the scalars that an optimizer, and its base optimizer, report about their last step.

    - `trust_ratios()` (LAMB): `train/trust_ratio/mean`, `/min` and `/max` over the tensors;
    - `sharpness` (SAM): `train/sharpness`, the loss at the perturbed weights minus the loss at the weights;
    - `step_sizes()` (COCOB): `train/step_size`, the mean over the tensors.

    Args:
        optimizer: Any optimizer; one without these attributes reports nothing.

    Returns:
        0-d tensor by name. If parameters are sharded, all processes must call this.

    >>> import torch
    >>> optimizer_scalars(torch.optim.SGD([torch.zeros(1, requires_grad=True)]))
    {}
    """
    scalars: dict[str, Tensor] = {}
    reporter: Any = optimizer
    if hasattr(reporter, "base_optimizer"):
        scalars |= optimizer_scalars(reporter.base_optimizer)
    if hasattr(reporter, "trust_ratios") and (ratios := reporter.trust_ratios()).numel() > 0:
        values = {"mean": ratios.mean(), "min": ratios.min(), "max": ratios.max()}
        scalars |= {f"train/trust_ratio/{name}": value for name, value in values.items()}
    if getattr(reporter, "sharpness", None) is not None:
        scalars["train/sharpness"] = reporter.sharpness
    if hasattr(reporter, "step_sizes") and (sizes := reporter.step_sizes()).numel() > 0:
        scalars["train/step_size"] = sizes.mean()
    return scalars


class NonFiniteLossError(RuntimeError):
    """The training loss, the weights or the outputs became NaN or infinite."""


class TrainingMonitor(Callback):
    """Writes the training curves every `trainer.log_every_n_steps` steps and stops on a non-finite loss.

    Per batch it only keeps the loss that the step computes anyway. Sums, logging and the copy from the device happen
    once per window of `log_every_n_steps` optimizer steps. Written to every logger, at the window's last step:

    - `train/loss_window`: mean loss of the window's batches;
    - `train/learning_rate` (with `/1`, `/2`, ... appended for further parameter groups);
    - `train/gradient_norm`: L2 norm of all gradients at the window's last step, before clipping;
    - `train/examples_per_second`: over the window, excluding validation;
    - `train/data_seconds_per_batch`: how long a batch was waited for (if the Trainer uses lean steps);
    - `train/peak_memory_mib`: the most memory that tensors have taken on a GPU so far, in MiB;
    - the `optimizer_scalars` of the optimizer.

    Each row of a `CSVLog` gets two more columns: `seconds` of training so far, without validation, including the time
    before a resume; and `evaluations`, the number of batches whose loss was evaluated, those of SAM's second pass too.

    Args:
        stop_on_non_finite: Stop with `NonFiniteLossError` when a loss is NaN or infinite, or the weights or an
            `ImageClassifier`'s outputs are. Losses are checked at the end of each window; all three are before
            validation and before a checkpoint is written. With False training continues; broken weights are not saved
            by `AtomicCheckpointIO` either way.

    Attributes:
        examples_per_second: Mean over the whole training so far, including the time before a resume.

    >>> TrainingMonitor(stop_on_non_finite=False).stop_on_non_finite
    False
    """

    def __init__(self, stop_on_non_finite: bool = True) -> None:
        self.stop_on_non_finite = stop_on_non_finite
        self.speed = Speed()
        self._losses = torch.empty(0)  # of the open window's batches, on the device; more room than are there
        self._filled = 0  # number of them
        self._checked = 0  # number of them known to be finite
        self._steps = 0  # optimizer steps in the open window
        self._stepping = False  # whether the current batch has taken one
        self._gradient_norm: Tensor | None = None
        self._window = 50
        self._accumulate = 1
        self._images: Tensor | None = None
        self._proved = -1  # the step whose weights are known to be finite
        self._evaluations = self._replayed = 0  # batches evaluated, and those of them that the module has replayed

    @property
    def examples_per_second(self) -> float:
        """Return training examples per second of training time, NaN before the first window."""
        return self.speed.totals.get("train/examples_per_second", math.nan)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of the Trainer's connectors
        self._window = every if trainer.loggers and every > 0 else 50
        self._proved = -1
        self._replayed = getattr(pl_module, "replayed_batches", 0)
        for logger in trainer.loggers:
            if isinstance(logger, CSVLog):
                logger.more = self._so_far
        self.speed.start()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Count the step; compute the gradient norm at the last step of a window."""
        if self._stepping:  # LBFGS calls its closure many times per step
            return
        self._stepping = True
        if self._steps + 1 == self._window:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients) if gradients else None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; log the window when it is complete."""
        self._accumulate = trainer.accumulate_grad_batches
        replayed = getattr(pl_module, "replayed_batches", 0)  # which starts again with another optimizer
        self._evaluations += 1 + max(replayed - self._replayed, 0)
        self._replayed = replayed
        self._keep(outputs["loss"])
        self._images = batch[0]
        self.speed.add(len(batch[0]))
        self._steps += self._stepping
        self._stepping = False
        if self._steps >= self._window:
            self._close_window(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check losses and weights, so that broken weights are not validated; stop the clock."""
        if trainer.training or trainer.state.fn == "fit":
            self._check_finite(trainer)
            self._check_weights(trainer, pl_module)
            self.speed.stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock."""
        if trainer.state.fn == "fit":
            self.speed.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the losses of the last, incomplete window and count its examples."""
        self._check_finite(trainer)
        self.speed.stop()
        self.speed.close_window(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Release the last batch."""
        self._images = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check losses and weights before anything is saved."""
        self._check_finite(trainer)
        broken = self._check_weights(trainer, pl_module)
        if broken is not None:
            checkpoint["broken"] = broken

    def state_dict(self) -> dict[str, Any]:
        """Return the current window and the totals."""
        losses = self._losses[: self._filled].tolist()
        counts = {"steps": self._steps, "evaluations": self._evaluations}
        return {**counts, "losses": losses, **self.speed.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the window of the checkpoint."""
        self._losses = torch.tensor(state_dict["losses"], dtype=torch.float64)
        self._filled = self._checked = len(state_dict["losses"])
        self._steps = state_dict["steps"]
        self._evaluations = state_dict.get("evaluations", 0)  # of a checkpoint of an earlier version
        self.speed.load_state_dict(state_dict)

    def _so_far(self) -> dict[str, float]:
        return {"seconds": self.speed.elapsed, "evaluations": float(self._evaluations)}

    def _keep(self, loss: Tensor) -> None:
        """Copy a loss: the tensor itself is overwritten when a captured graph is replayed."""
        if self._filled == self._losses.shape[0] or self._losses.device != loss.device:
            dtype = torch.float32 if loss.device.type == "mps" else torch.float64  # which Apple's GPU lacks
            room = torch.zeros(max(2 * self._filled, self._window * self._accumulate), dtype=dtype, device=loss.device)
            room[: self._filled] = self._losses[: self._filled]
            self._losses = room
        self._losses[self._filled] = loss
        self._filled += 1

    def _close_window(self, trainer: pl.Trainer) -> None:
        self.speed.stop()
        mean = self._losses[: self._filled].mean() * self._accumulate
        metrics: dict[str, Any] = {"train/loss_window": mean, **self.speed.close_window(trainer)}
        if self._gradient_norm is not None:
            metrics["train/gradient_norm"] = self._gradient_norm
        for index, group in enumerate(trainer.optimizers[0].param_groups if trainer.optimizers else []):
            if "lr" in group:
                metrics["train/learning_rate" + (f"/{index}" if index else "")] = group["lr"]
        for optimizer in trainer.optimizers[:1]:
            metrics |= optimizer_scalars(optimizer)
        metrics = _floats(metrics)
        if not math.isfinite(metrics["train/loss_window"]):
            self._check_finite(trainer)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step - 1)
        self._filled = self._checked = self._steps = 0
        self.speed.start()

    def _check_finite(self, trainer: pl.Trainer) -> None:
        new = self._losses[self._checked : self._filled]
        if self.stop_on_non_finite and not bool(new.isfinite().all()):
            first = int((~new.isfinite()).nonzero()[0])
            step = trainer.global_step + math.ceil((first - len(new) + 1) / self._accumulate)
            raise NonFiniteLossError(self._report(trainer, f"the training loss is {float(new[first])} at step {step}"))
        self._checked = self._filled

    def _check_weights(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str | None:
        """Return what is broken, or None; where it shall stop the training, raise."""
        if self._proved == trainer.global_step:
            return None
        part = broken_part(pl_module)
        broken = f"the weights are NaN or infinite ({part})" if part is not None else None
        if broken is None and self._images is not None and not has_finite_outputs(trainer, pl_module, self._images):
            broken = "the network's outputs are NaN or infinite"
        if trainer.strategy.reduce_boolean_decision(broken is not None, all=False):
            broken = broken or "the weights of another process are NaN or infinite"
            if self.stop_on_non_finite:
                raise NonFiniteLossError(self._report(trainer, f"{broken} after step {trainer.global_step}"))
            return broken
        self._proved = trainer.global_step
        return None

    def _report(self, trainer: pl.Trainer, problem: str) -> str:
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups if "lr" in group]
        # A checkpoint of step 0 is of no use, and train.py removes a run that has no other one.
        callbacks = [one for one in trainer.checkpoint_callbacks if getattr(one, "saved_step", None) != 0]
        saved = [getattr(callback, "path", None) for callback in callbacks]
        kept = next((f"the last finite checkpoint is {path}" for path in saved if path and path.exists()), None)
        rate = ", ".join(f"{float(rate):.6g}" for rate in rates) or "none"
        grows = any(isinstance(part, SPOCU) and math.isinf(part.c) for part in trainer.lightning_module.modules())
        bound = "bound SPOCU, which grows like x^8, by c=1 (--model.activation.c 1), " if grows else ""
        return (
            f"{problem}, learning rate {rate}; "
            f"{kept or 'no step was saved before'}: {bound}lower the learning rate, clip gradients "
            "(--trainer.gradient_clip_val 1.0), or find the operation with --trainer.detect_anomaly true"
        )


def _floats(values: dict[str, Any]) -> dict[str, float]:
    """Return numbers and 0-d tensors as floats, by one copy from the device."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if tensors:
        device = next(iter(tensors.values())).device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        copied = torch.stack([value.detach().to(device, dtype) for value in tensors.values()]).tolist()
        values = values | dict(zip(tensors, copied, strict=True))
    return {name: float(value) for name, value in values.items()}
