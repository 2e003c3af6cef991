"""Minimisation of a smooth convex loss of many parameters."""

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def minimise(loss: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor) -> Tensor:
    """Return the parameters that minimise a loss, found by scipy's L-BFGS-B in float64 from `start`.

    `loss` maps parameters, in the shape of `start`, to the loss and its gradient.
    """
    from scipy.optimize import minimize

    def evaluate(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        value, gradient = loss(torch.from_numpy(flat.copy()).to(start.device).view_as(start))
        return float(value), gradient.flatten().cpu().numpy()

    # Tolerances at float64's precision: the remaining error is that of rounding a mean.
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    best = minimize(evaluate, start.flatten().cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
    if np.abs(best.jac).max() > 1e-4:
        warnings.warn(f"the fit did not converge: {best.message}", stacklevel=5)
    return torch.from_numpy(best.x).to(start.device).view_as(start)


def softmax_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood of a batch, and its gradient with respect to the logits."""
    log_p = logits.log_softmax(dim=1)
    loss = -log_p.gather(1, labels[:, None]).sum()
    gradient = log_p.exp_()
    gradient[torch.arange(len(labels), device=labels.device), labels] -= 1
    return loss, gradient
