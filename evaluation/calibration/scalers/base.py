"""The base of all scalers: checked inputs, scikit-learn's parameters, and a state that is saved with its shapes."""

import inspect
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...checks import Array, as_tensor
from ..inputs import Predictions, accumulation_dtype, prepare
from ..proper_scores import negative_log_likelihood


class Scaler(nn.Module):
    """Base of the scalers: a map from a classifier's logits to calibrated ones, fitted on held-out data.

    As an estimator it follows scikit-learn: `fit` returns the scaler and sets tensors whose names end in `_`,
    constructor arguments are stored unchanged, and `clone`, `GridSearchCV` and `make_pipeline` accept it. As a module
    it follows a network, `nn.Sequential(network, scaler)`: it maps logits to logits of the same shape and dtype, whose
    softmax (sigmoid for `[N]`) gives the calibrated probabilities. The fitted tensors are in its `state_dict` and move
    with it; loading a `state_dict` adopts the shapes found there, whether the scaler was fitted or not.

    Logits are `[N, K]`, or `[N]` for a binary classifier, the log-odds of class 1 (equivalent to `[0, z]`).

    Subclasses name their tensors in `fitted` and implement `_fit` and `_calibrate`. The first tensor is a scalar if the
    scaler takes any number of classes; otherwise it has a row for each class, or one row for two classes.
    """

    fitted: ClassVar[tuple[str, ...]]
    """The names of the fitted tensors."""
    fits_each_class: ClassVar[bool] = True
    """Whether there are parameters of each class, so that a class without examples would never be predicted."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_adopt_shapes)

    def fit(self, logits: Array, labels: Array) -> Self:
        """Fit to held-out data: finite logits `[N, K]` or `[N]`, and integer labels `[N]`.

        Returns:
            The scaler, its fitted tensors float64 on the device of the logits.

        Raises:
            ValueError: For shapes that do not match, labels out of range, values that are not finite, a class without
                examples (except for `TemperatureScaling`), and data that determine no calibration.
        """
        return self.fit_checked(prepare(logits, labels, from_logits=True))

    def fit_checked(self, predictions: Predictions) -> Self:
        """Fit to checked logits."""
        _check_finite(predictions.scores)
        scores, labels = predictions.scores, predictions.labels
        if accumulation_dtype(scores.device) != torch.float64:  # a device without float64
            scores, labels = scores.cpu(), labels.cpu()
        with torch.no_grad():
            rows = two_columns(scores)
            if self.fits_each_class:
                _check_every_class(type(self).__name__, labels, rows.shape[1])
            self._fit(Predictions(rows, labels, from_logits=True))
        self.classes_ = np.arange(rows.shape[1])  # which scikit-learn's scorers read
        return self

    def forward(self, logits: Tensor) -> Tensor:
        """Return calibrated logits of the shape and dtype of `logits`, computed in float32 or float64."""
        if not self.__sklearn_is_fitted__():
            raise ValueError(f"{type(self).__name__} is not fitted yet: call fit(logits, labels), or load a state_dict")
        rows = two_columns(logits if logits.dtype == torch.float64 else logits.float())
        first: Tensor = getattr(self, self.fitted[0])
        if first.ndim and rows.shape[1] != max(len(first), 2):
            wanted = f"the {max(len(first), 2)} classes of {type(self).__name__}'s fit"
            raise ValueError(f"logits must have {wanted}, found {list(logits.shape)}")
        calibrated = self._calibrate(rows)
        if logits.ndim == 1:
            calibrated = calibrated[:, 1] - calibrated[:, 0]
        return calibrated.to(logits.dtype)

    def predict_proba(self, logits: Array) -> Any:
        """Return calibrated probabilities of finite logits `[N, K]` or `[N]`: float64 rows that sum to 1.

        Returns:
            `[N, K]`, or `[N, 2]` for `[N]`; a tensor for a tensor, otherwise a numpy array.

        Raises:
            ValueError: If the shape differs from that of the fit, or a value is not finite.
        """
        scores = as_tensor(logits)
        if scores.ndim not in (1, 2) or not scores.is_floating_point():
            raise ValueError(f"logits must be floating point [N, K] or [N], found {scores.dtype} {list(scores.shape)}")
        _check_finite(scores)
        with torch.no_grad():
            p = self(two_columns(scores.to(accumulation_dtype(scores.device)))).softmax(dim=1)
        return p if isinstance(logits, Tensor) else np.asarray(p)

    def predict(self, logits: Array) -> Any:
        """Return the most probable class of each row, `[N]`."""
        return self.predict_proba(logits).argmax(1)

    def score(self, logits: Array, labels: Array) -> float:
        """Return minus the mean negative log-likelihood, which scikit-learn's searches maximise by default."""
        return -float(negative_log_likelihood(self.predict_proba(logits), labels))

    def _fit(self, predictions: Predictions) -> None:
        """Fit to `[N, K]` logits of any floating dtype."""
        raise NotImplementedError

    def _calibrate(self, logits: Tensor) -> Tensor:
        """Calibrate float32 or float64 `[N, K]` logits."""
        raise NotImplementedError

    def _set_fitted(self, **tensors: Tensor) -> None:
        for name, value in tensors.items():
            self.register_buffer(name, value)

    def __sklearn_is_fitted__(self) -> bool:
        return set(self.fitted) <= dict(self.named_buffers(recurse=False)).keys()

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), None, ClassifierTags(), None, input_tags=InputTags())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments (`deep` is scikit-learn's and has no effect)."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments, which the next `fit` uses.

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
        """Return the parameters, for `repr`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())


def _adopt_shapes(scaler: Scaler, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give a scaler tensors of the shapes in a `state_dict` before they are loaded."""
    buffers = dict(scaler.named_buffers(recurse=False))
    for name in scaler.fitted:
        value, present = state_dict.get(prefix + name), buffers.get(name)
        if isinstance(value, Tensor) and (present is None or present.shape != value.shape):
            device = value.device if present is None else present.device
            scaler._set_fitted(**{name: torch.empty_like(value, device=device)})


def two_columns(logits: Tensor) -> Tensor:
    """Return `[N, K]` logits: those of a binary classifier, `[N]`, as `[0, z]`."""
    return torch.stack([torch.zeros_like(logits), logits], dim=1) if logits.ndim == 1 else logits


def _check_finite(logits: Tensor) -> None:
    low, high = (float(value) for value in logits.aminmax()) if logits.numel() else (0.0, 0.0)
    if not abs(low) < float("inf") or not abs(high) < float("inf"):
        raise ValueError(f"logits must be finite, found {low if not abs(low) < float('inf') else high}")


def _check_every_class(name: str, labels: Tensor, classes: int) -> None:
    absent = (labels.bincount(minlength=classes) == 0).nonzero().flatten().tolist()
    if absent:
        which = f"class {absent[0]}" if len(absent) == 1 else f"the classes {', '.join(map(str, absent[:5]))}"
        more = f" and {len(absent) - 5} others" if len(absent) > 5 else ""
        raise ValueError(
            f"labels must have every class, found no example of {which}{more}, which {name} would learn never to "
            "predict: hold out more data, stratified, or use TemperatureScaling"
        )


def check_positive(name: str, value: float, *, zero: bool = False) -> float:
    """Return a finite number above 0 (or at least 0), or raise a ValueError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (value > 0 or (zero and value == 0)) or value == float("inf"):
        raise ValueError(f"{name} must be a finite number {'of at least' if zero else 'above'} 0, found {value!r}")
    return value
