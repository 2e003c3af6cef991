"""What optimizers can say of their last step, for the training curves."""

from typing import Any

from torch.optim import Optimizer


def optimizer_scalars(optimizer: Optimizer) -> dict[str, float]:
    """Read what an optimizer, and the one that it is built around, has to say.

    - `trust_ratios()` (LAMB): `train/trust_ratio/mean`, `/min` and `/max` over the tensors;
    - `sharpness` (SAM): `train/sharpness`, the loss at the perturbed weights minus the loss at the weights;
    - `step_sizes()` (COCOB): `train/step_size`, the mean over the tensors.

    Args:
        optimizer: Any; one that has none of these says nothing.

    Returns:
        Value by name. Where parameters are sharded, all processes must call.

    >>> import torch
    >>> optimizer_scalars(torch.optim.SGD([torch.zeros(1, requires_grad=True)]))
    {}
    """
    scalars: dict[str, float] = {}
    spoken: Any = optimizer
    if hasattr(spoken, "base_optimizer"):
        scalars |= optimizer_scalars(spoken.base_optimizer)
    if hasattr(spoken, "trust_ratios") and (ratios := spoken.trust_ratios()).numel() > 0:
        values = {"mean": ratios.mean(), "min": ratios.min(), "max": ratios.max()}
        scalars |= {f"train/trust_ratio/{name}": float(value) for name, value in values.items()}
    if getattr(spoken, "sharpness", None) is not None:
        scalars["train/sharpness"] = float(spoken.sharpness)
    if hasattr(spoken, "step_sizes") and (sizes := spoken.step_sizes()).numel() > 0:
        scalars["train/step_size"] = float(sizes.mean())
    return scalars
