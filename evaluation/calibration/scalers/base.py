"""What all scalers share: checked inputs, scikit-learn's parameters, and a state that is saved with its shapes."""

import inspect
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..chunks import accumulation_dtype
from ..inputs import as_tensor, prepare


class Scaler(nn.Module):
    """Base of the scalers: a map from a classifier's logits to calibrated ones, fitted on held-out data.

    As an estimator it follows scikit-learn: ``fit`` returns the scaler and sets tensors whose names end in ``_``,
    constructor arguments are kept as they are, ``sklearn.base.clone`` works. As a module it stands behind a network,
    ``nn.Sequential(network, scaler)``: it maps logits to logits of the same shape and type, whose softmax (sigmoid for
    ``[N]``) are the calibrated probabilities; what was fitted is in its ``state_dict``, and moves with it. A scaler
    that was never fitted takes that state, whatever its shapes.

    Logits are ``[N, K]``, or ``[N]`` for a binary classifier, the log-odds of class 1 (as if ``[0, z]``).
    """

    fitted: ClassVar[tuple[str, ...]]
    """The names of the fitted tensors."""

    def fit(self, logits: Tensor | npt.ArrayLike, labels: Tensor | npt.ArrayLike) -> Self:
        """Fit to held-out data.

        Args:
            logits: ``[N, K]`` or ``[N]``, finite; torch tensor on any device, or anything that numpy takes.
            labels: ``[N]`` integers.

        Returns:
            The scaler, its fitted tensors float64 on the device of the logits.

        Raises:
            ValueError: For shapes that do not match, labels out of range, values that are not finite, and data that
                determine no calibration.
        """
        scores, target = prepare(logits, labels, from_logits=True)
        _check_finite(scores)
        if accumulation_dtype(scores.device) != torch.float64:  # a device without float64
            scores, target = scores.cpu(), target.cpu()
        with torch.no_grad():
            self._fit(two_columns(scores), target)
        return self

    def forward(self, logits: Tensor) -> Tensor:
        """Return calibrated logits of the shape and type of ``logits``, computed in float32 at least."""
        self._check_fitted()
        wide = logits if logits.dtype == torch.float64 else logits.float()
        rows = two_columns(wide)
        classes = self._classes()
        if classes is not None and rows.shape[1] != classes:
            raise ValueError(f"{type(self).__name__} was fitted on {classes} classes, got logits {list(logits.shape)}")
        calibrated = self._calibrate(rows)
        if logits.ndim == 1:
            calibrated = calibrated[:, 1] - calibrated[:, 0]
        return calibrated.to(logits.dtype)

    def predict_proba(self, logits: Tensor | npt.ArrayLike) -> Any:
        """Return calibrated probabilities, float64 rows that sum to 1.

        Args:
            logits: ``[N, K]`` or ``[N]``, finite.

        Returns:
            ``[N, K]``, or ``[N, 2]`` for ``[N]``; a tensor for a tensor, else a numpy array.

        Raises:
            ValueError: For another shape than that of the data fitted to, and values that are not finite.
        """
        scores = as_tensor(logits)
        if scores.ndim not in (1, 2) or not scores.is_floating_point():
            raise ValueError(f"logits must be floating point [N, K] or [N], got {scores.dtype} {list(scores.shape)}")
        _check_finite(scores)
        with torch.no_grad():
            found = self(two_columns(scores.to(accumulation_dtype(scores.device)))).softmax(dim=1)
        return found if isinstance(logits, Tensor) else np.asarray(found)

    def _fit(self, logits: Tensor, labels: Tensor) -> None:
        """Fit to ``[N, K]`` logits of any floating type."""
        raise NotImplementedError

    def _calibrate(self, logits: Tensor) -> Tensor:
        """Calibrate float32 or float64 ``[N, K]`` logits."""
        raise NotImplementedError

    def _classes(self) -> int | None:
        """The number of classes fitted to; None where any will do."""
        raise NotImplementedError

    def _set_fitted(self, **tensors: Tensor) -> None:
        for name, value in tensors.items():
            if name in self._buffers:
                self._buffers[name] = value
            else:
                self.register_buffer(name, value)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise ValueError(f"{type(self).__name__} is not fitted yet: call fit(logits, labels), or load a state_dict")

    def __sklearn_is_fitted__(self) -> bool:
        return all(name in self._buffers for name in self.fitted)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments (``deep`` is scikit-learn's, and changes nothing)."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments; they count at the next ``fit``.

        Raises:
            ValueError: For a name that the constructor does not have, or a bad value.
        """
        unknown = params.keys() - self.get_params().keys()
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameter {', '.join(sorted(unknown))}")
        fresh = type(self)(**(self.get_params() | params))  # checks the values
        for name in params:
            setattr(self, name, getattr(fresh, name))
        return self

    def extra_repr(self) -> str:
        """The parameters, for ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.fitted:
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor):
                known = self._buffers.get(name)
                if known is None or known.shape != value.shape:
                    self._set_fitted(**{name: torch.empty_like(value, device=None if known is None else known.device)})
        super()._load_from_state_dict(state_dict, prefix, *args)


def two_columns(logits: Tensor) -> Tensor:
    """Return ``[N, K]`` logits: those of a binary classifier, ``[N]``, as ``[0, z]``."""
    return torch.stack([torch.zeros_like(logits), logits], dim=1) if logits.ndim == 1 else logits


def _check_finite(logits: Tensor) -> None:
    low, high = (float(value) for value in logits.aminmax()) if logits.numel() else (0.0, 0.0)
    if not abs(low) < float("inf") or not abs(high) < float("inf"):
        raise ValueError(f"logits must be finite, got {low if not abs(low) < float('inf') else high}")


def check_positive(name: str, value: float, *, zero: bool = False) -> float:
    """Return a finite number above 0 (or at least 0), or raise a ValueError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (value > 0 or (zero and value == 0)) or value == float("inf"):
        raise ValueError(f"{name} must be a finite number {'of at least' if zero else 'above'} 0, got {value!r}")
    return value
