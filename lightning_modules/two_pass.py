"""Optimizers that evaluate the loss more than once per step, under Lightning's automatic optimization."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ParallelStrategy, Strategy
from torch import Tensor
from torch.optim import LBFGS, Optimizer


@runtime_checkable
class PerturbingOptimizer(Protocol):
    """A `torch.optim.Optimizer` that steps along the gradient at perturbed weights, as SAM does.

    Attributes:
        base_optimizer: The optimizer that takes the step.
        sharpness: Second loss minus first loss of the last step; set by `TwoPass`.
        sync_perturbation: Average the first gradient over data-parallel processes, or perturb each by its own (False).
    """

    base_optimizer: Optimizer
    sharpness: Tensor | None
    sync_perturbation: bool

    def perturbed(self) -> AbstractContextManager[bool]:
        """Perturb the weights in the `with` block; yield False if the gradient does not allow it."""

    def skip_step(self) -> None:
        """Restore the weights in the block of `perturbed`, because another process cannot take the step."""

    def descent(self) -> AbstractContextManager[None]:
        """Make `step` the base optimizer's in the `with` block."""


def evaluates_repeatedly(optimizer: Optimizer) -> bool:
    """Return whether a step of the optimizer evaluates the loss more than once: SAM and the like, and LBFGS."""
    return isinstance(optimizer, (PerturbingOptimizer, LBFGS))


class TwoPass:
    """Runs optimizers that evaluate the loss more than once per step under automatic optimization.

    Lightning's closure is a whole training step. Calling it twice would count each batch twice, report the second loss,
    move the statistics of normalisation layers twice and clip the first gradient too; it covers only the last batch of
    an accumulated gradient; and a gradient scaler does not call it twice at all. Here it is called once, at the
    unperturbed weights. Every further evaluation replays the batches whose gradients were accumulated: logs and metrics
    stay as they are, buffers are restored, and the loss is summed over these batches. If the gradient of any process is
    not finite, all processes skip the step.

    Memory: the batches of one step (`accumulate_grad_batches` of them), and one copy of the module's buffers.

    Attributes:
        replaying: Whether a batch is being evaluated again.
    """

    def __init__(self) -> None:
        self.replaying = False
        self._window: list[tuple[Any, int]] = []
        self._losses: list[Tensor] = []

    def first(self, batch: Any, batch_idx: int, loss: Tensor) -> bool:
        """Keep the batch of a training step; return whether it is evaluated for the first time."""
        self._losses.append(loss.detach())
        if not self.replaying:
            self._window.append((batch, batch_idx))
        return not self.replaying

    def step(self, module: LightningModule, optimizer: LightningOptimizer, closure: Callable[[], Any]) -> None:
        """Take a step in place of `LightningModule.optimizer_step`."""
        try:
            if isinstance(optimizer.optimizer, LBFGS):
                optimizer.step(closure=self._repeatable(module, optimizer.optimizer, closure))
            else:
                self._step_twice(module, optimizer, closure)
        finally:
            self._window, self._losses = [], []

    def _repeatable(self, module: LightningModule, optimizer: Optimizer, closure: Callable[[], Any]) -> Any:
        """Return a closure that may be called many times."""
        calls = itertools.count()

        def evaluate() -> Tensor:
            if next(calls) > 0:
                optimizer.zero_grad()
                return self._replay(module)
            closure()
            return self._loss(module)

        return evaluate

    def _step_twice(self, module: LightningModule, wrapped: LightningOptimizer, closure: Callable[[], Any]) -> None:
        optimizer: Any = wrapped.optimizer  # a PerturbingOptimizer
        strategy = module.trainer.strategy
        scaler = getattr(strategy.precision_plugin, "scaler", None)
        with _unsynchronised(strategy, not optimizer.sync_perturbation):
            closure()
        first = self._loss(module)
        if scaler is not None:  # it unscales an optimizer once per step, which the strategy does for `optimizer` below
            scaler.unscale_(optimizer.base_optimizer)
        with optimizer.perturbed() as climbed:
            everywhere = strategy.reduce_boolean_decision(climbed)
            if everywhere:
                optimizer.zero_grad()
                optimizer.sharpness = self._replay(module) - first
            elif climbed:
                optimizer.skip_step()
        if not everywhere and scaler is not None:  # put an inf into the gradients so that it skips this step everywhere
            gradients = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
            next(gradients).fill_(torch.inf)
        wrapped._on_before_step()  # Lightning's count of steps, which LightningOptimizer.step keeps
        if everywhere or scaler is not None:
            with optimizer.descent():
                strategy.optimizer_step(optimizer, lambda: first, module)
        wrapped._on_after_step()

    def _loss(self, module: LightningModule) -> Tensor:
        if not self._losses:
            raise RuntimeError("no batch was kept: a training_step of your own must call that of ImageClassifier")
        return torch.stack(self._losses).sum() / module.trainer.accumulate_grad_batches

    def _replay(self, module: LightningModule) -> Tensor:
        """Evaluate the window's batches again: accumulate their gradients and return their loss."""
        strategy, batches = module.trainer.strategy, len(self._window)
        self._losses.clear()
        with self._without_traces(module):
            for place, (batch, batch_idx) in enumerate(self._window, 1):
                with _unsynchronised(strategy, place < batches):  # as Lightning does
                    output: Any = strategy.training_step(batch, batch_idx)
                    loss = output["loss"] if isinstance(output, Mapping) else output
                    strategy.backward(loss / module.trainer.accumulate_grad_batches, None)
        return self._loss(module)

    @contextmanager
    def _without_traces(self, module: LightningModule) -> Iterator[None]:
        """Log nothing in the `with` block, and restore the buffers at its end."""
        buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
        self.replaying = True
        module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]  # silent for this pass only
        try:
            yield
        finally:
            self.replaying = False
            del module.log
            for buffer, before in buffers:
                buffer.detach().copy_(before)


def _unsynchronised(strategy: Strategy, block: bool) -> AbstractContextManager[None]:
    return strategy.block_backward_sync() if block and isinstance(strategy, ParallelStrategy) else nullcontext()
