"""A network that is compiled once for training and once for evaluation."""

import warnings
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

_WORTH_COMPILING = 20_000  # steps: compiling takes a minute or two, and saves some milliseconds a step


class Compiled:
    """Calls a network through `torch.compile` for batches like the first one, and as it is for all others.

    `torch.compile` compiles again for every new shape, in the middle of a run: for the short last batch of an epoch,
    for the batches of validation, for its short last one. Here the first batch in training and the first in evaluation
    are compiled for, with fixed shapes, which is what makes the fast kernels.

    Args:
        network: The network; its parameters and the names in its state stay as they are.
        works: Whether there is a compiler; without one the network always runs as it is.

    >>> network = Compiled(nn.Linear(2, 1))
    >>> network.network
    Linear(in_features=2, out_features=1, bias=True)
    """

    def __init__(self, network: nn.Module, works: bool = True) -> None:
        self.network, self.works = network, works
        self._compiled: Any = torch.compile(network, dynamic=False) if works else network
        self._kinds: dict[bool, Any] = {}  # of batch, for training and for evaluation

    def __call__(self, images: Tensor) -> Any:
        """Return what the network returns."""
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        kind = images.shape, images.dtype, images.device, grad, inference
        return (self._compiled if self._kinds.setdefault(self.network.training, kind) == kind else self.network)(images)


def compiled(network: nn.Module, device: torch.device) -> Compiled:
    """Return a compiled network, or warn that no compiler works for the device."""
    try:
        torch.compile(_probe)(torch.ones(2, device=device))
    except Exception as error:  # each missing part of the tool chain raises its own error
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"compile=True has no effect, torch.compile does not work on {device} ({reason})", stacklevel=2)
        return Compiled(network, works=False)
    return Compiled(network)


def is_worth_compiling(trainer: Trainer) -> bool:
    """Return whether a training on a GPU is so long that compiling pays for itself; its data must be set up."""
    steps = trainer.estimated_stepping_batches
    return trainer.strategy.root_device.type == "cuda" and steps * trainer.accumulate_grad_batches >= _WORTH_COMPILING


def _probe(values: Tensor) -> Tensor:
    return values * 2 + 1
