"""Optimizers that want gradients at more than one point a step, under Lightning's automatic optimization."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ParallelStrategy, Strategy
from torch import Tensor
from torch.optim import LBFGS, Optimizer


def evaluates_repeatedly(optimizer: Optimizer) -> bool:
    """Say whether an optimizer's step evaluates the loss more than once: SAM and its kind, and LBFGS."""
    return hasattr(optimizer, "is_perturbed") or isinstance(optimizer, LBFGS)


class TwoPass:
    """Takes the steps of an optimizer that evaluates the loss more than once a step.

    Lightning's closure is a whole training step. Called twice it counts each batch twice, reports the second loss,
    moves the statistics of normalisation layers twice and clips the first gradient too; it knows the last batch of an
    accumulated gradient only; and a gradient scaler does not call it twice at all. Here it is called once, at the
    unperturbed weights. Every further evaluation replays the batches whose gradients were accumulated, forward and
    backward: logs and metrics stay as they are, buffers are put back, and the loss is summed over all these batches.

    An optimizer with `is_perturbed` has `first_step()`, which climbs and says whether it could; `restore()`;
    `skip_step()`; and a `base_optimizer`, which descends. It may have `sync_perturbation`: whether data-parallel
    processes climb by their mean gradient (False: each by its own). Its `sharpness` is set to the second loss minus the
    first. Where any process has a gradient that is not finite, all skip the step.

    Memory: the batches of one step (`accumulate_grad_batches` of them), and one copy of the module's buffers.

    Attributes:
        replaying: Whether a batch is being evaluated again.
    """

    def __init__(self) -> None:
        self.replaying = False
        self._window: list[tuple[Any, int]] = []
        self._losses: list[Tensor] = []

    def first(self, batch: Any, batch_idx: int, loss: Tensor) -> bool:
        """Keep the batch of a training step, and say whether it is evaluated for the first time."""
        self._losses.append(loss.detach())
        if not self.replaying:
            self._window.append((batch, batch_idx))
        return not self.replaying

    def step(self, module: LightningModule, optimizer: LightningOptimizer, closure: Callable[[], Any]) -> None:
        """Do what `LightningModule.optimizer_step` does."""
        try:
            if isinstance(optimizer.optimizer, LBFGS):
                optimizer.step(closure=self._repeatable(module, optimizer.optimizer, closure))
            else:
                self._step_twice(module, optimizer, closure)
        finally:
            self._window.clear()
            self._losses.clear()

    def _repeatable(
        self, module: LightningModule, optimizer: Optimizer, closure: Callable[[], Any]
    ) -> Callable[[], Tensor]:
        """Return a closure that may be called many times."""
        called = False

        def evaluate() -> Tensor:
            nonlocal called
            if called:
                optimizer.zero_grad()
                return self._replay(module)
            called = True
            closure()
            return self._loss(module)

        return evaluate

    def _step_twice(self, module: LightningModule, wrapped: LightningOptimizer, closure: Callable[[], Any]) -> None:
        optimizer: Any = wrapped.optimizer
        strategy = module.trainer.strategy
        scaler = getattr(strategy.precision_plugin, "scaler", None)
        with _unsynchronised(strategy, not getattr(optimizer, "sync_perturbation", False)):
            closure()
        first = self._loss(module)
        if scaler is not None:  # which unscales once for each optimizer: pass 2 is unscaled for the base optimizer
            scaler.unscale_(optimizer)
        climbed = _climb(optimizer, strategy)
        if climbed:
            try:
                optimizer.zero_grad()
                optimizer.sharpness = self._replay(module) - first
            finally:
                optimizer.restore()
        elif scaler is not None:  # let it find what it must hear of, also where only another process has it
            next(p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None).fill_(
                torch.inf
            )
        wrapped._on_before_step()  # Lightning's count of steps, which LightningOptimizer.step keeps
        if climbed or scaler is not None:
            strategy.optimizer_step(optimizer.base_optimizer, lambda: first, module)
        wrapped._on_after_step()

    def _loss(self, module: LightningModule) -> Tensor:
        if not self._losses:
            raise RuntimeError("no batch was kept: a training_step of your own must call that of ImageClassifier")
        return torch.stack(self._losses).sum() / module.trainer.accumulate_grad_batches

    def _replay(self, module: LightningModule) -> Tensor:
        """Evaluate the window's batches again: add up their gradients and return their loss."""
        strategy, batches = module.trainer.strategy, len(self._window)
        self._losses.clear()
        with self._without_traces(module):
            for place, (batch, batch_idx) in enumerate(self._window, 1):
                with _unsynchronised(strategy, place < batches):  # as Lightning does it
                    output: Any = strategy.training_step(batch, batch_idx)
                    loss = output["loss"] if isinstance(output, Mapping) else output
                    strategy.backward(loss / module.trainer.accumulate_grad_batches, None)
        return self._loss(module)

    @contextmanager
    def _without_traces(self, module: LightningModule) -> Iterator[None]:
        """Log nothing, and put the buffers back at the end."""
        buffers = list(module.buffers())
        kept = [buffer.clone() for buffer in buffers]
        self.replaying = True
        module.log = _log_nothing  # type: ignore[method-assign]  # meant: silent for this pass only
        try:
            yield
        finally:
            self.replaying = False
            del module.log
            with torch.no_grad():
                for buffer, before in zip(buffers, kept, strict=True):
                    buffer.copy_(before)


def _climb(optimizer: Any, strategy: Strategy) -> bool:
    """Perturb the weights, in all processes or in none."""
    climbed = optimizer.first_step()
    everywhere = strategy.reduce_boolean_decision(climbed)
    if climbed and not everywhere:
        optimizer.skip_step()
    return everywhere


def _unsynchronised(strategy: Strategy, block: bool) -> AbstractContextManager[None]:
    return strategy.block_backward_sync() if block and isinstance(strategy, ParallelStrategy) else nullcontext()


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Stand in for `LightningModule.log`."""
