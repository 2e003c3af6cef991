"""A training step that calls what somebody listens to, and nothing else: Lightning's loop without its idle work.

Lightning's loop calls some 17 hooks of every callback in every step, most of them empty, each in a profiler's context
and with the module's attributes set around it. For small networks, and on a GPU that waits for its host, that is half
of the step. `use_lean_steps` puts a subclass of the loop in its place. What it leaves out has no effect: weights,
logged values, events and checkpoints are those of Lightning's loop.

This is the one file with private names of Lightning. `tests/lightning_modules/test_training_loop.py` compares both
loops and holds what this file takes for granted about the other.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.core.hooks import DataHooks
from pytorch_lightning.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from .perturbing import PerturbingOptimizer
from .two_pass import TwoPassMixin

_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_PARTS = ("on_train_batch_start", "backward", "optimizer_zero_grad")
"""Methods of a module that are a part of the step: where one is overridden, all steps are Lightning's."""
_TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_PRECISIONS = (Precision, DoublePrecision, HalfPrecision, MixedPrecision)


def use_lean_steps(trainer: Trainer) -> None:
    """Let a Trainer train with lean steps wherever they do the same as Lightning's.

    Lightning's own step is taken at the first two batches of an epoch and at its last one, before validation, at a log
    window, at the end of training and after a request to stop; and always with a profiler, several devices, a gradient
    scaler, manual optimization, loaders without a length, `fast_dev_run`, validation by time, or a module that
    overrides `on_train_batch_start`, `backward` or `optimizer_zero_grad`.

    Args:
        trainer: A Trainer that has not begun.

    >>> trainer = Trainer(logger=False)
    >>> use_lean_steps(trainer)
    >>> type(trainer.fit_loop.epoch_loop).__name__
    'LeanEpochLoop'
    """
    if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]  # set by one of its connectors
        own = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = LeanEpochLoop(trainer, own.min_steps, own.max_steps)


def seconds_waiting(trainer: Trainer) -> float | None:
    """Return the seconds that this process has waited for training batches so far; None without `use_lean_steps`."""
    loop = trainer.fit_loop.epoch_loop
    return loop.seconds_waiting if isinstance(loop, LeanEpochLoop) else None


class LeanEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with a `LeanStep` for every batch that is followed by nothing."""

    lean_steps = 0
    """Number of batches so far that a lean step was taken for."""
    seconds_waiting = 0.0
    """Seconds spent on getting batches from the loader."""
    _asked_at = 0.0
    _step: "LeanStep | None" = None
    _quiet = 0  # number of batches ahead that are followed by nothing
    _was_lean = False

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Look up what a step of this epoch has to call."""
        super().on_run_start(data_fetcher)
        self._step = LeanStep.of(self.trainer, data_fetcher)
        self._quiet = 0

    def _on_before_fetch(self) -> None:
        self._asked_at = time.perf_counter()

    def _on_after_fetch(self) -> None:
        self.seconds_waiting += time.perf_counter() - self._asked_at

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on a batch."""
        trainer = self.trainer
        self._was_lean = self._quiet > 0 and not (trainer.should_stop or trainer.received_sigterm)
        if self._was_lean:
            assert self._step is not None
            self._quiet -= 1
            self.lean_steps += 1
            self._advance_lean(self._step, data_fetcher)
        else:
            super().advance(data_fetcher)

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Do what follows a batch: nothing, after a lean step during which nobody asked to stop."""
        trainer = self.trainer
        if self._was_lean and not (trainer.should_stop or trainer.received_sigterm):
            self._batches_that_stepped += self._steps_now()
        else:
            super().on_advance_end(data_fetcher)
            self._quiet = 0 if self._step is None else self._batches_to_next_event(data_fetcher)

    def _steps_now(self) -> bool:
        """Return whether the optimizer steps at this batch, which is not the last one."""
        return bool(self.batch_progress.current.ready % self.trainer.accumulate_grad_batches == 0)

    def _advance_lean(self, step: "LeanStep", data_fetcher: _DataFetcher) -> None:
        trainer, progress, results = self.trainer, self.batch_progress, self._results
        batch_idx = progress.current.ready
        batch = step.to_device(next(data_fetcher)[0])
        progress.increment_ready()
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        step.call("on_train_batch_start", batch, batch_idx)
        progress.increment_started()
        stepping = self._steps_now()
        outputs = step(batch, batch_idx, stepping)
        progress.increment_processed()
        if stepping and trainer.lr_scheduler_configs:
            self._update_learning_rates("step", update_plateau_schedulers=False)
        step.call("on_train_batch_end", outputs, batch, batch_idx)
        if any(True for _ in results.valid_items()):  # somebody calls `self.log` in a step
            trainer._logger_connector.on_batch_end()
        results.batch = results.batch_size = None
        progress.increment_completed()
        if trainer.should_stop:
            trainer._logger_connector.update_train_step_metrics()

    def _batches_to_next_event(self, data_fetcher: _DataFetcher) -> int:
        """Return how many of the next batches are followed by nothing but another batch."""
        trainer: Any = self.trainer  # whose connectors set attributes that its class does not declare
        ready, every = self.batch_progress.current.ready, trainer.accumulate_grad_batches
        if trainer._logger_connector._first_loop_iter is not False:
            return 0
        steps = [self.max_steps - self.global_step] if self.max_steps != -1 else []
        if trainer.log_every_n_steps > 0:
            steps.append(trainer.log_every_n_steps - self._batches_that_stepped % trainer.log_every_n_steps)
        batches = [int(trainer.num_training_batches) - ready] + [every * n - ready % every for n in steps]
        if trainer.enable_validation and trainer.val_check_batch != float("inf"):
            seen = self.batch_progress.total.ready if trainer.check_val_every_n_epoch is None else ready
            batches.append(trainer.val_check_batch - seen % trainer.val_check_batch)
        return max(min(batches) - 1, 0)


class LeanStep:
    """Forward, backward and optimizer step of one batch, with whatever of an epoch is listening looked up once."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.module, self.strategy = trainer, trainer.lightning_module, trainer.strategy
        self.attributes = vars(self.module)
        self.optimization = trainer.fit_loop.epoch_loop.automatic_optimization
        self.optimizer: Optimizer = trainer.optimizers[0]
        self.calls = {name: self._listeners(name) for name in _HOOKS}
        self.takes_index = is_param_in_hook_signature(self.module.training_step, "batch_idx", min_args=2)
        self.clips_itself = is_overridden("configure_gradient_clipping", self.module)
        self.transfers_itself = any(
            is_overridden(name, one, DataHooks)
            for name in _TRANSFERS
            for one in (self.module, vars(trainer)["datamodule"])
        )
        own = type(self.module).optimizer_step in (LightningModule.optimizer_step, TwoPassMixin.optimizer_step)
        own = own and "optimizer_step" not in self.attributes
        self.steps_itself = not own or isinstance(self.optimizer, (PerturbingOptimizer, LBFGS))
        precision = self.strategy.precision_plugin
        self.autocast = nullcontext if type(precision) is Precision else precision.train_step_context
        self.outputs: dict[str, Any] = {}

    @classmethod
    def of(cls, trainer: Trainer, data_fetcher: _DataFetcher) -> "LeanStep | None":
        """Return the step of this epoch, or None if all of its steps must be Lightning's."""
        module, precision, told = trainer.lightning_module, trainer.strategy.precision_plugin, vars(trainer)
        can_be_lean = (
            type(trainer.strategy) is SingleDeviceStrategy
            and type(precision) in _PRECISIONS
            and getattr(precision, "scaler", None) is None
            and module.automatic_optimization
            and len(trainer.optimizers) == 1
            and not trainer.fit_loop._skip_backward
            and data_fetcher.length is not None
            and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
            and not told["fast_dev_run"]
            and told["_val_check_time_interval"] is None
            and not any(one.reduce_on_plateau and one.interval == "step" for one in trainer.lr_scheduler_configs)
            and not any(is_overridden(name, module) for name in _PARTS)
        )
        return cls(trainer) if can_be_lean else None

    def _listeners(self, name: str) -> list[Callable[..., Any]]:
        """Return what overrides a hook, in Lightning's order."""
        callbacks = [one for one in vars(self.trainer)["callbacks"] if _listens(one, name)]
        calls: list[Callable[..., Any]] = [partial(getattr(one, name), self.trainer, self.module) for one in callbacks]
        return [*calls, getattr(self.module, name)] if is_overridden(name, self.module) else calls

    def call(self, name: str, *args: Any) -> None:
        """Call whatever listens to a hook."""
        if calls := self.calls[name]:
            outer, self.attributes["_current_fx_name"] = self.attributes["_current_fx_name"], name
            for one in calls:
                one(*args)
            self.attributes["_current_fx_name"] = outer

    def to_device(self, batch: Any) -> Any:
        """Return a batch on the training device."""
        batch = self.strategy.precision_plugin.convert_input(batch)
        device = self.strategy.root_device
        is_there = type(batch) in (tuple, list) and all(isinstance(x, Tensor) and x.device == device for x in batch)
        if is_there and not self.transfers_itself:
            return batch
        return self.strategy.batch_to_device(self.module._on_before_batch_transfer(batch, 0), dataloader_idx=0)

    def __call__(self, batch: Any, batch_idx: int, stepping: bool) -> dict[str, Any]:
        """Train on a batch; take an optimizer step if `stepping`. Return what `on_train_batch_end` gets."""
        evaluate = partial(self._evaluate, batch, batch_idx)
        if not stepping:
            evaluate()
        elif self.steps_itself:
            self.optimization._optimizer_step(batch_idx, evaluate)
        else:
            steps = self.optimization.optim_progress.optimizer.step
            steps.increment_ready()
            step: Callable[..., Any] = self.optimizer.step
            step(closure=partial(self._evaluate_and_clip, evaluate))
            steps.increment_completed()
        outputs, self.outputs = self.outputs, {}
        return outputs

    def _evaluate_and_clip(self, evaluate: Callable[[], Tensor | None]) -> Tensor | None:
        loss = evaluate()
        self.call("on_before_optimizer_step", self.optimizer)
        clip, kind = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
        if clip is not None or self.clips_itself:
            self.strategy.precision_plugin._clip_gradients(self.module, self.optimizer, clip, kind)
        return loss

    @torch.enable_grad()
    def _evaluate(self, batch: Any, batch_idx: int) -> Tensor | None:
        outer, self.attributes["_current_fx_name"] = self.attributes["_current_fx_name"], "training_step"
        output = (
            self.strategy.training_step(batch, batch_idx) if self.takes_index else self.strategy.training_step(batch)
        )
        self.attributes["_current_fx_name"] = outer
        every = self.trainer.accumulate_grad_batches
        loss, extra = _split(output)
        if batch_idx % every == 0:
            self._zero_grad()
        if loss is None:
            self.outputs = {}
            return None
        # Dividing by one, and copying what nothing changes, would be launches of a GPU's kernels.
        loss = loss if every == 1 else loss / every
        self.call("on_before_backward", loss)
        loss.backward()
        self.call("on_after_backward")
        self.outputs = {"loss": loss.detach(), **extra}
        return self.outputs["loss"]

    def _zero_grad(self) -> None:
        progress = self.optimization.optim_progress.optimizer.zero_grad
        progress.increment_ready()
        self.call("on_before_zero_grad", self.optimizer)
        progress.increment_started()
        self.optimizer.zero_grad()
        progress.increment_completed()


def _listens(callback: Callback, name: str) -> bool:
    if isinstance(callback, ModelCheckpoint) and getattr(type(callback), name) is ModelCheckpoint.on_train_batch_end:
        return callback._every_n_train_steps > 0 or callback._train_time_interval is not None  # or it does nothing
    return is_overridden(name, callback, Callback)


def _split(output: Any) -> tuple[Tensor | None, dict[str, Any]]:
    """Return the loss and the other items that a `training_step` returned."""
    if isinstance(output, Tensor):
        return output, {}
    if isinstance(output, Mapping) and output.get("loss") is not None:
        return output["loss"], {name: value for name, value in output.items() if name != "loss"}
    result = ClosureResult.from_training_step_output(output)  # its errors
    Closure.warning_cache.warn("`training_step` returned `None`. If this was on purpose, ignore this warning...")
    return result.closure_loss, result.extra
