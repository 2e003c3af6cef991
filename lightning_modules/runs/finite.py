"""Whether a network is broken: weights or outputs that are NaN or infinite."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from ..restoring import restored


def broken_part(module: nn.Module) -> str | None:
    """Return the name of a parameter that is not finite, or of a buffer with NaN or +inf; None if there is none.

    A buffer may hold -inf, as masks do.

    >>> net = nn.Linear(2, 1)
    >>> broken_part(net)
    >>> _ = nn.init.constant_(net.bias, -torch.inf)
    >>> broken_part(net)
    'bias'
    """
    tensors: list[tuple[str, Tensor, bool]] = [(name, one, True) for name, one in module.named_parameters()]
    tensors += [(name, one, False) for name, one in module.named_buffers()]
    return _first_broken(tensors)


def broken_weight(state_dict: Mapping[str, Any]) -> str | None:
    """Return the name of a tensor with NaN or +inf, or None; parameters and masks are not told apart.

    >>> broken_weight({"step": 3, "weight": torch.tensor([1.0, torch.nan])})
    'weight'
    """
    return _first_broken([(name, one, False) for name, one in state_dict.items() if isinstance(one, Tensor)])


def _first_broken(tensors: list[tuple[str, Tensor, bool]]) -> str | None:
    """Return the name of the first broken tensor; the flag says whether -inf is broken too."""
    fine = [(name, _is_fine(one.detach(), both)) for name, one, both in tensors if _has_floats(one)]
    if not fine:
        return None
    # One transfer from the device.
    flags = torch.stack([flag.to(fine[0][1].device) for _, flag in fine]).tolist()
    return next((name for (name, _), flag in zip(fine, flags, strict=True) if not flag), None)


def _has_floats(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_meta


def _is_fine(tensor: Tensor, both: bool) -> Tensor:
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    fine = values.amax() < torch.inf  # which no NaN is
    return fine & (values.amin() > -torch.inf) if both else fine


def has_finite_outputs(trainer: Trainer, module: LightningModule, images: Tensor) -> bool:
    """Return whether the network maps `images` to finite outputs, as the next training step would.

    Weights may be finite and so large that outputs are not. The module is left as it was, and so are random numbers.
    Only a module with an `image_shape`, on devices that hold all of it, is looked at.
    """
    whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
    if not whole or not hasattr(module, "image_shape"):
        return True
    devices = [images.device] if images.is_cuda else []
    context: AbstractContextManager[None] = trainer.precision_plugin.train_step_context()
    # With gradients, so that a compiled network is not compiled again.
    with torch.random.fork_rng(devices), restored(module), torch.enable_grad(), context:
        outputs = module(images)
    return not isinstance(outputs, Tensor) or bool(outputs.detach().isfinite().all())
