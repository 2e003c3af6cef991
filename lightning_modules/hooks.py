"""Callbacks that cost nothing for the hooks they do not use."""

from typing import TypeVar

from pytorch_lightning import Callback

# What Lightning calls on every callback for every training batch, whether or not the callback overrides it.
_BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)

CallbackClass = TypeVar("CallbackClass", bound=type[Callback])


def skip_unused_hooks(cls: CallbackClass) -> CallbackClass:
    """Class decorator: hooks of the training batch that ``cls`` does not override become ``None``.

    Lightning wraps each of them, empty or not, in a profiler context for every batch, but passes over what is not
    callable. On a small network those empty calls were a fifth of the whole step.
    """
    for name in _BATCH_HOOKS:
        if getattr(cls, name) is getattr(Callback, name):
            setattr(cls, name, None)
    return cls
