"""Checks of the estimator's parameters and data; every error is one line."""

import numbers
from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

from .coordinates import Metric
from .data import ArraySource, BatchSource, Float64, OutputType, first_of, to_numpy
from .device import find_place
from .problem import Options, Precision, Problem, Seeding

_ALGORITHMS = ("lloyd", "minibatch")


def check_options(estimator: Any, data: Any = None) -> Options:
    """Return the parameters of the estimator, whose `n_features_in_` is set; `data` may be on a GPU."""
    clusters = _integer("n_clusters", estimator.n_clusters)
    tol = estimator.tol
    if isinstance(tol, bool) or not isinstance(tol, numbers.Real) or not 0 <= float(tol) < float("inf"):
        raise ValueError(f"tol must be a finite number of at least 0, found {tol!r}")
    if estimator.metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, found {estimator.metric!r}")
    if estimator.algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(_ALGORITHMS)}, found {estimator.algorithm!r}")
    if estimator.precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, found {estimator.precision!r}")
    where = find_place(estimator.device, data)
    return Options(
        clusters=clusters,
        init=_init(estimator.init, clusters, estimator.n_features_in_),
        starts=_starts(estimator.n_init, estimator.init),
        max_iter=_integer("max_iter", estimator.max_iter),
        tol=float(tol),
        metric=estimator.metric,
        algorithm=estimator.algorithm,
        device=where.device,
        gpus=where.gpus,
        precision=estimator.precision,
        seed=int(check_random_state(estimator.random_state).randint(2**31 - 1)),
        verbose=bool(estimator.verbose),
    )


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, found {value!r}")
    return int(value)


def _starts(n_init: Any, init: Any) -> int:
    if isinstance(n_init, str) and n_init == "auto":
        return 10 if isinstance(init, str) and init == "random" else 1  # as scikit-learn
    try:
        return _integer("n_init", n_init)
    except ValueError as error:
        raise ValueError(f"{error}; or 'auto'") from None


def _init(init: Any, clusters: int, dim: int) -> Seeding | Float64:
    if isinstance(init, str):
        if init not in get_args(Seeding):
            raise ValueError(f"init must be one of {', '.join(get_args(Seeding))} or an array, found {init!r}")
        return init  # type: ignore[return-value]  # mypy does not narrow by get_args
    centres = to_numpy(init).astype(np.float64)
    if centres.shape != (clusters, dim):
        expected = f"n_clusters={clusters} rows and {dim} columns"
        raise ValueError(f"init must have {expected} like X, found shape {list(centres.shape)}")
    if not np.isfinite(centres).all():
        raise ValueError("init must be finite, found NaN or infinity")
    return centres


def check_data(estimator: BaseEstimator, X: Any, reset: bool) -> Problem:
    """Return the problem of an array or a tensor `[N, D]`, which is not copied; finiteness is checked later.

    With `reset` the estimator's number of columns is set, otherwise it must be that of `X`.
    """
    if isinstance(X, Tensor):
        X = X.detach()
        if X.ndim != 2 or X.is_complex() or not X.numel():
            raise ValueError(f"X must be real numbers [N, D], found {X.dtype} {list(X.shape)}")
        # scikit-learn's checks on a placeholder: only the number of columns matters.
        validate_data(estimator, np.empty((1, X.shape[1])), reset=reset, ensure_all_finite=False)
        return Problem(ArraySource(X), OutputType.of(X))
    numeric = isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.dtype.itemsize <= 8
    dtype = None if numeric else [np.float64, np.float32, np.float16]
    X = validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=False)
    return Problem(ArraySource(X), OutputType.of(X))


def check_batches(estimator: BaseEstimator, batches: Iterable[Any]) -> Problem:
    """Return the problem of batches; the number of columns and the output type are those of the first batch."""
    if iter(batches) is iter(batches):
        raise ValueError(
            f"batches are read several times, but a {type(batches).__name__} can be read once only: use something that "
            "restarts, such as a list or a DataLoader"
        )
    for batch in batches:
        rows = first_of(batch)
        rows = rows if isinstance(rows, Tensor | np.ndarray) else torch.as_tensor(rows)
        first = check_data(estimator, rows, reset=True)
        return Problem(BatchSource(batches, first.source.dim), first.output)
    raise ValueError("batches must not be empty, found no batch")


def check_weights(sample_weight: Any, rows: int) -> Float64 | None:
    """Return the weights `[N]`, or None if every row counts once."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        return np.full(rows, float(sample_weight))
    weights: Float64 = to_numpy(sample_weight).astype(np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"Sample weights must be 1D, one for each of the {rows} rows, found {list(weights.shape)}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and at least 0, found another value")
    return weights
