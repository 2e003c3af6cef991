"""The optimizers of `TwoPassMixin` that step along the gradient at perturbed weights: a protocol."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.optim import Optimizer


@runtime_checkable
class PerturbingOptimizer(Protocol):
    """A `torch.optim.Optimizer` that steps along the gradient at perturbed weights, as SAM does.

    Attributes:
        base_optimizer: The optimizer that takes the step.
        sharpness: Second loss minus first loss of the last step; set by `TwoPassMixin`.
        sync_perturbation: Average the first gradient over data-parallel processes, or perturb each by its own (False).

    One that perturbs only some steps has `perturbs_next` too: see `perturbs_next` below.
    """

    base_optimizer: Optimizer
    sharpness: Tensor | None
    sync_perturbation: bool

    def perturbed(self, wait: bool = True) -> AbstractContextManager[bool]:
        """Perturb the weights in the `with` block; yield False if the gradient does not allow it.

        With `wait=False` it may yield True before the gradient is known, and skip the step in `descent`.
        """

    def skip_step(self) -> None:
        """Restore the weights in the block of `perturbed`, because another process cannot take the step."""

    def descent(self) -> AbstractContextManager[None]:
        """Make `step` the base optimizer's in the `with` block."""


def perturbs_next(optimizer: Any) -> bool:
    """Return whether the next step of a `PerturbingOptimizer`, or the one in progress, is perturbed."""
    return bool(getattr(optimizer, "perturbs_next", True))
