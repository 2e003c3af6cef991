"""SAM and LBFGS, which evaluate the loss more than once per step, under Lightning's automatic optimization."""

import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ParallelStrategy, Strategy
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from .accumulation import as_mean, batches_in_window, make_mean
from .perturbing import PerturbingOptimizer, perturbs_next
from .restoring import restored


class TwoPassMixin(LightningModule):
    """Makes SAM (any `PerturbingOptimizer`) and LBFGS right under automatic optimization, in any LightningModule.

    Lightning's closure is a whole training step. An optimizer that calls it twice counts each batch twice, reports the
    second loss, moves the statistics of normalisation layers twice and clips the first gradient too; the closure covers
    only the last batch of an accumulated gradient; and a gradient scaler does not call it twice at all.

    With this class it is called once, at the unperturbed weights. For every further evaluation, `training_step` is
    called again with the batches whose gradients were accumulated. Such a replay leaves only gradients behind: nothing
    is logged by `self.log`, and buffers, torchmetrics objects and the numbers, tensors, lists, dictionaries and sets
    that are attributes of the module are restored. Any other side effect of `training_step` belongs under
    `if not self.replaying`. As in a hand-written loop, dropout draws new masks, and clipping acts on the descent's
    gradient. If the gradient of any process is not finite, all processes skip the step.

    The last window of an epoch may have fewer than `accumulate_grad_batches` batches. Its gradient is the mean over
    them, for every optimizer under automatic optimization; Lightning alone divides by `accumulate_grad_batches`.

    The optimizer is recognised when training starts. `configure_optimizers`, `training_step`, `optimizer_step` (which
    may call `optimizer.step(closure=...)` itself) and `setup` may be overridden at will, and `on_train_start` must call
    `super().on_train_start()`. Other optimizers, and manual optimization, are left alone.

    Memory: the batches of one step, and one copy of what is restored.

    Raises:
        RuntimeError: In the first step, if an `on_train_start` has not called `super().on_train_start()`.
        ValueError: At the start, if `training_step` takes the argument `dataloader_iter`, or LBFGS is to be used with a
            gradient scaler.

    >>> class Mine(TwoPassMixin, LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = torch.nn.Linear(4, 2)
    ...
    ...     def training_step(self, batch, batch_idx):
    ...         return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
    ...
    ...     def configure_optimizers(self):
    ...         return LBFGS(self.parameters())  # or SAM(self.parameters(), torch.optim.SGD, lr=0.1)
    >>> Mine().replaying
    False
    """

    __jit_unused_properties__ = [*LightningModule.__jit_unused_properties__, "replaying", "replayed_batches"]  # noqa: RUF012  # as in Lightning
    _two_pass: "TwoPass | None" = None
    _has_started = False

    @property
    def replaying(self) -> bool:
        """Whether `training_step` is evaluating a batch again."""
        return self._two_pass is not None and self._two_pass.replaying

    @property
    def replayed_batches(self) -> int:
        """Number of batches that have been evaluated again since the optimizer was prepared."""
        return 0 if self._two_pass is None else self._two_pass.replayed

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled, which is not being trained."""
        state = super().__getstate__()
        if state.pop("_two_pass", None) is not None:
            del state["training_step"]
        return state

    def on_train_start(self) -> None:
        """Prepare an optimizer that evaluates the loss more than once per step."""
        super().on_train_start()
        self._prepare()

    def on_train_epoch_start(self) -> None:
        """Prepare an optimizer that a callback has exchanged."""
        super().on_train_epoch_start()
        self._prepare()

    def on_train_end(self) -> None:
        """Forget the optimizer."""
        super().on_train_end()
        self._forget()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Take a step, as `LightningModule.optimizer_step` does."""
        if not self._has_started and _evaluates_repeatedly(optimizer.optimizer):
            raise RuntimeError(
                f"on_train_start of {type(self).__name__} must call super().on_train_start(): TwoPassMixin prepares "
                f"{type(optimizer.optimizer).__name__} there"
            )
        if optimizer_closure is not None and self.automatic_optimization and self._two_pass is None:
            optimizer_closure = as_mean(self.trainer, optimizer.optimizer, optimizer_closure)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log as `LightningModule.log` does, but nothing while `replaying`."""
        if not self.replaying:
            super().log(*args, **kwargs)

    def _prepare(self) -> None:
        self._has_started = True
        optimizer = self.optimizers() if self.automatic_optimization else None
        if isinstance(optimizer, LightningOptimizer) and "step" in vars(optimizer):
            return  # by an earlier call
        self._forget()
        if isinstance(optimizer, LightningOptimizer) and _evaluates_repeatedly(optimizer.optimizer):
            if isinstance(optimizer.optimizer, LBFGS) and _scaler(self.trainer.strategy) is not None:
                found = f"LBFGS evaluates the loss often, which precision {self.trainer.precision} does not allow"
                raise ValueError(f"{found}: use bf16-mixed or 32-true")
            self._two_pass = TwoPass(self, optimizer)

    def _forget(self) -> None:
        if self._two_pass is not None:
            self._two_pass.remove()
            self._two_pass = None


def _evaluates_repeatedly(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, (PerturbingOptimizer, LBFGS))


class TwoPass:
    """The `training_step` of a module, which keeps its batches, and the `step` of an optimizer, which replays them.

    Args:
        module: The module; its `training_step` is replaced by this object until `remove`.
        optimizer: What Lightning passes to `optimizer_step`; its `step` is replaced.

    Attributes:
        replaying: Whether a batch is being evaluated again.
        replayed: Number of batches that have been evaluated again.
    """

    def __init__(self, module: LightningModule, optimizer: LightningOptimizer) -> None:
        if "dataloader_iter" in inspect.signature(module.training_step).parameters:
            raise ValueError(
                f"{type(optimizer.optimizer).__name__} evaluates a batch more than once, which training_step with the "
                "argument dataloader_iter does not allow: let it take batch and batch_idx"
            )
        self.module, self.optimizer, self.replaying, self.replayed = module, optimizer, False, 0
        self.__wrapped__ = module.training_step  # for whoever inspects the signature
        self._shadowed = vars(module).get("training_step")
        self._window: list[tuple[list[Any], Tensor]] = []
        module.training_step = self  # type: ignore[method-assign]  # until `remove`
        optimizer.step = functools.partial(self.step, optimizer)  # type: ignore[method-assign]  # until `remove`

    def remove(self) -> None:
        """Give the module its own `training_step` back, and the optimizer its `step`."""
        vars(self.optimizer).pop("step", None)
        del self.module.training_step
        if self._shadowed is not None:
            self.module.training_step = self._shadowed  # type: ignore[method-assign]  # as it was

    def __call__(self, *args: Any) -> Any:
        """Evaluate a batch; unless it is a replay, keep it when its gradient is accumulated."""
        trainer = self.module.trainer
        if self.replaying or not trainer.training:  # a validation may call it too
            return self.__wrapped__(*args)
        if trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches == 0:  # Lightning clears the gradients
            self._window.clear()
        kept = _copies(args)
        output = self.__wrapped__(*args)
        loss = _loss_of(output)
        if loss is not None and loss.requires_grad:
            entry = (kept, loss.detach())
            loss.register_hook(lambda _: self._window.append(entry))
        return output

    def step(self, wrapped: LightningOptimizer, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step in place of `LightningOptimizer.step`; return the loss, or None if there is no gradient."""
        optimizer: Any = wrapped.optimizer
        try:
            if closure is not None:  # otherwise the gradients are there
                alone = perturbs_next(optimizer) and not getattr(optimizer, "sync_perturbation", True)
                with _unsynchronised(self._strategy, alone):
                    closure()
            make_mean(self.module.trainer, optimizer)
            if not self._window:
                return None
            first = self._mean([loss for _, loss in self._window])
            if isinstance(optimizer, LBFGS):
                self._strategy.optimizer_step(optimizer, self._repeatable(optimizer, first))
            else:
                self._step_twice(optimizer, first)
            return first
        finally:
            self._window.clear()

    @property
    def _strategy(self) -> Strategy:
        return self.module.trainer.strategy

    def _repeatable(self, optimizer: Optimizer, first: Tensor) -> Callable[[], Tensor]:
        """Return a closure that may be called many times; its first gradients are there."""
        calls = itertools.count()

        def evaluate() -> Tensor:
            loss = first
            if next(calls) > 0:
                optimizer.zero_grad()
                loss = self._replay()
            for p in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
                p.grad = p.grad.contiguous()  # LBFGS takes no channels-last gradients
            return loss

        return evaluate

    def _step_twice(self, optimizer: Any, first: Tensor) -> None:
        strategy = self._strategy
        scaler, perturbs = _scaler(strategy), perturbs_next(optimizer)
        # It unscales an optimizer once per step, which the strategy does for `optimizer` below.
        if scaler is not None and perturbs:
            scaler.unscale_(optimizer.base_optimizer)
        # Processes agree on the step, and so does a scaler, before it is taken.
        with optimizer.perturbed(wait=scaler is not None or self.module.trainer.world_size > 1) as climbed:
            everywhere = strategy.reduce_boolean_decision(climbed)
            if everywhere and perturbs:
                optimizer.zero_grad()
                optimizer.sharpness = self._replay() - first
            elif climbed and not everywhere:
                optimizer.skip_step()
        if not everywhere and scaler is not None:  # put an inf into the gradients so that it skips this step everywhere
            gradients = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
            next(gradients).fill_(torch.inf)
        if everywhere or scaler is not None:
            steps: list[Any] = []
            with optimizer.descent(), optimizer.register_step_pre_hook(lambda *_: steps.append(None)):
                strategy.optimizer_step(optimizer, lambda: first)
            if everywhere and not steps and hasattr(optimizer, "skipped_steps"):
                optimizer.skipped_steps += 1  # by the scaler: the descent's gradient is not finite

    def _mean(self, losses: list[Tensor]) -> Tensor:
        return torch.stack(losses).sum() / batches_in_window(self.module.trainer)

    def _replay(self) -> Tensor:
        """Evaluate the window's batches again: accumulate their gradients and return their loss."""
        losses = []
        self.replaying = True
        try:
            with restored(self.module):
                for place, (args, _) in enumerate(self._window, 1):
                    self.replayed += 1
                    with _unsynchronised(self._strategy, place < len(self._window)):  # as Lightning does
                        loss = _loss_of(self._strategy.training_step(*_copies(args)))
                        if loss is not None:
                            losses.append(loss.detach())
                            self._strategy.backward(loss / batches_in_window(self.module.trainer), None)
        finally:
            self.replaying = False
        return self._mean(losses)


def _scaler(strategy: Strategy) -> Any:
    return getattr(strategy.precision_plugin, "scaler", None)


def _copies(args: Iterable[Any]) -> list[Any]:
    """Return the arguments, with copies of containers from which a `training_step` may take something out."""
    return [copy.copy(arg) if isinstance(arg, (MutableMapping, list)) else arg for arg in args]


def _loss_of(output: Any) -> Tensor | None:
    return output.get("loss") if isinstance(output, Mapping) else output


def _unsynchronised(strategy: Strategy, block: bool) -> AbstractContextManager[None]:
    return strategy.block_backward_sync() if block and isinstance(strategy, ParallelStrategy) else nullcontext()
