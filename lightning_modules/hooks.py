"""Skip Lightning's no-op batch hooks and its no-op profiler."""

from contextlib import AbstractContextManager, nullcontext

from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.profilers import PassThroughProfiler

_BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def skip_unused_hooks(owner: Callback | LightningModule) -> None:
    """Set the training batch's hooks that `owner` does not override to `None`.

    Lightning wraps each of them, empty or not, in a profiler context for every batch, but skips what is not callable.
    With a handful of callbacks that is a fifth of the step of a small network.

    >>> callback = Callback()
    >>> skip_unused_hooks(callback)
    >>> callback.on_train_batch_end is None, callable(callback.on_train_end)
    (True, True)
    """
    base = Callback if isinstance(owner, Callback) else LightningModule
    for name in _BATCH_HOOKS:
        if getattr(type(owner), name) is getattr(base, name):
            setattr(owner, name, None)


class Unprofiled(PassThroughProfiler):
    """Lightning's default profiler, which measures nothing, without a new generator for each of some 17 hooks per step.

    >>> with Unprofiled().profile("run_training_batch"):
    ...     pass
    """

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # not a generator
        """Return a context that does nothing."""
        return self._nothing
