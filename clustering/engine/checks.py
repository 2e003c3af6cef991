"""What the estimator accepts, with errors of one line."""

import numbers
from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

from .coordinates import Float64, Metric
from .data import Held, Kind, plain
from .fit import Options
from .parallel import gpus
from .starts import Seeding

_ALGORITHMS = ("lloyd", "minibatch")


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def options(estimator: Any, columns: int) -> Options:
    """The estimator's parameters, checked.

    Raises:
        ValueError: For a value that makes no sense, for a GPU that is not there.
    """
    clusters = _whole("n_clusters", estimator.n_clusters, 1)
    tol = estimator.tol
    if isinstance(tol, bool) or not isinstance(tol, numbers.Real) or not 0 <= float(tol) < float("inf"):
        raise ValueError(f"tol must be a number of at least 0, got {tol!r}")
    if estimator.metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {estimator.metric!r}")
    if estimator.algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(_ALGORITHMS)}, got {estimator.algorithm!r}")
    return Options(
        clusters=clusters,
        columns=columns,
        init=_init(estimator.init, clusters, columns),
        starts=_whole("n_init", estimator.n_init, 1),
        limit=_whole("max_iter", estimator.max_iter, 1),
        tol=float(tol),
        metric=estimator.metric,
        algorithm=estimator.algorithm,
        gpus=gpus(estimator.device),
        seed=int(check_random_state(estimator.random_state).randint(2**31 - 1)),
    )


def _init(init: Any, clusters: int, columns: int) -> Seeding | Float64:
    if isinstance(init, str):
        if init not in get_args(Seeding):
            raise ValueError(f"init must be one of {', '.join(get_args(Seeding))} or an array, got {init!r}")
        return init  # type: ignore[return-value]  # mypy does not narrow by get_args
    centres = plain(init).astype(np.float64)
    if centres.ndim != 2 or len(centres) != clusters or columns != centres.shape[1]:
        wanted = f"n_clusters={clusters} rows and {columns} columns"
        raise ValueError(f"init must have {wanted} as X has, got shape {list(centres.shape)}")
    if not np.isfinite(centres).all():
        raise ValueError("init must be finite, got NaN or infinity")
    return centres


def data(estimator: BaseEstimator, X: Any, reset: bool) -> tuple[Held, Kind]:
    """The data as a source, without a copy where it is an array or a tensor; whether it is finite is seen later.

    Raises:
        ValueError: For data that is not ``[N, D]`` numbers, or has another number of columns than the fitted data.
    """
    if isinstance(X, Tensor):
        X = X.detach()
        if X.ndim != 2 or X.is_complex() or not X.numel():
            raise ValueError(f"X must be real numbers [N, D], got {X.dtype} {list(X.shape)}")
        # The checks of scikit-learn, on no row: only the number of columns matters.
        validate_data(estimator, np.empty((1, X.shape[1])), reset=reset, ensure_all_finite=False)
        return Held(X), Kind.of(X)
    plain_numbers = isinstance(X, np.ndarray) and X.dtype.kind in "fiub" and X.dtype.itemsize <= 8
    dtype = None if plain_numbers else [np.float64, np.float32, np.float16]
    checked = validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=False)
    return Held(checked), Kind.of(checked)


def weights(sample_weight: Any, rows: int) -> Float64 | None:
    """The weights, or None where each row counts once.

    Raises:
        ValueError: For weights that are not ``[N]`` finite numbers of at least 0.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        return np.full(rows, float(sample_weight))
    found: npt.NDArray[Any] = plain(sample_weight).astype(np.float64)
    if found.shape != (rows,):
        raise ValueError(f"Sample weights must be 1D, one for each of the {rows} rows, got shape {list(found.shape)}")
    if not np.isfinite(found).all() or (found < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    return found


def first_batch(batches: Iterable[Any]) -> Any:
    """The rows of the first batch.

    Raises:
        ValueError: If there is none.
    """
    for batch in batches:
        rows = batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
        return rows if isinstance(rows, Tensor | np.ndarray) else torch.as_tensor(rows)
    raise ValueError("there are no batches")
