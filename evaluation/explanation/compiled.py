"""Networks behind `torch.compile`: the one file of explanation with private names of torch."""

from torch import nn


def original(module: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` wrapped, or the module itself."""
    return getattr(module, "_orig_mod", module)


def is_compiled(module: nn.Module) -> bool:
    """Return whether a call of the module runs compiled code."""
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
