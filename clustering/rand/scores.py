"""The Rand index of two labelings, plain and adjusted for chance, exact at any size.

The `N (N - 1)` ordered pairs of different points are counted as

    tp: together in both labelings             fp: together only in the second
    fn: together only in the first             tn: together in neither

Then::

    Rand index           = (tp + tn) / (tp + fp + fn + tn)
    adjusted Rand index  = 2 (tp tn - fn fp) / ((tp + fn) (fn + tn) + (tp + fp) (fp + tn))

References: Rand, "Objective criteria for the evaluation of clustering methods" (JASA 1971); Hubert, Arabie, "Comparing
partitions" (Journal of Classification 1985). Definitions and edge cases are those of scikit-learn. The numbers of pairs
are Python integers, because their products exceed 2^63 above about 60,000 points.
"""

from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .contingency import Counts, Labels, count

_EXACT_SQUARES = 3_037_000_499
"""The largest number whose square is an int64."""


class Pairs(NamedTuple):
    """Numbers of ordered pairs of different points, as Python integers."""

    tn: int
    fp: int
    fn: int
    tp: int


def count_pairs(counts: Counts) -> Pairs:
    """Return the numbers of pairs from the sizes of cells and clusters."""
    total = int(counts.cells.sum())
    both, first, second = (_sum_of_squares(sizes, total) for sizes in counts)
    return Pairs(tn=total**2 - first - second + both, fp=second - both, fn=first - both, tp=both - total)


def rand_of(pairs: Pairs) -> float:
    """Return the Rand index; 1 without any pair."""
    agreeing, total = pairs.tp + pairs.tn, sum(pairs)
    return agreeing / total if total else 1.0


def adjusted_rand_of(pairs: Pairs) -> float:
    """Return the adjusted Rand index; 1 for equal labelings."""
    tn, fp, fn, tp = pairs
    if fn == 0 and fp == 0:
        return 1.0
    return 2 * (tp * tn - fn * fp) / ((tp + fn) * (fn + tn) + (tp + fp) * (fp + tn))


@overload
def pair_confusion_matrix(labels_true: Tensor, labels_pred: Tensor) -> Tensor: ...


@overload
def pair_confusion_matrix(labels_true: npt.ArrayLike, labels_pred: npt.ArrayLike) -> npt.NDArray[np.int64]: ...


def pair_confusion_matrix(labels_true: Labels, labels_pred: Labels) -> Tensor | npt.NDArray[np.int64]:
    """Count the ordered pairs of different points: `[[tn, fp], [fn, tp]]`, int64 (arguments as in `rand_score`).

    `tp` pairs are together in both labelings, `fn` only in the first, `fp` only in the second, `tn` in neither.

    Raises:
        ValueError: As in `rand_score`; for more than 3,037,000,499 points, whose pairs exceed int64.

    Example:
        >>> pair_confusion_matrix([0, 0, 1, 2], [0, 0, 1, 1])
        array([[8, 2],
               [0, 2]])
    """
    counts = count(labels_true, labels_pred)
    total = int(counts.cells.sum())
    if total > _EXACT_SQUARES:
        raise ValueError(f"pair counts must fit into int64, found {total:,} points: use the scores instead")
    tn, fp, fn, tp = count_pairs(counts)
    matrix = torch.tensor([[tn, fp], [fn, tp]], device=counts.cells.device)
    return matrix if isinstance(labels_true, Tensor) else matrix.numpy()


@overload
def rand_score(labels_true: Tensor, labels_pred: Tensor) -> Tensor: ...


@overload
def rand_score(labels_true: npt.ArrayLike, labels_pred: npt.ArrayLike) -> float: ...


def rand_score(labels_true: Labels, labels_pred: Labels) -> Tensor | float:
    """Return the share of the pairs of points on which two labelings agree, in [0, 1].

    Args:
        labels_true: `[N]` integers, strings or other labels: a tensor on any device, or an array.
        labels_pred: `[N]` labels of the same points.

    Returns:
        A float; for tensors, a float64 scalar on their device. 1 for fewer than two points.

    Raises:
        ValueError: For labels that are not one-dimensional or differ in number, and missing ones: None, NaN, infinity,
            NaT, pandas' NA, a masked point.

    Example:
        >>> rand_score([0, 0, 1, 1], ["b", "b", "a", "a"])
        1.0
        >>> round(rand_score([0, 0, 1, 2], [0, 0, 1, 1]), 4)
        0.8333
    """
    return _like(rand_of(count_pairs(count(labels_true, labels_pred))), labels_true)


@overload
def adjusted_rand_score(labels_true: Tensor, labels_pred: Tensor) -> Tensor: ...


@overload
def adjusted_rand_score(labels_true: npt.ArrayLike, labels_pred: npt.ArrayLike) -> float: ...


def adjusted_rand_score(labels_true: Labels, labels_pred: Labels) -> Tensor | float:
    """Return the Rand index adjusted for chance: 1 for equal clusterings, 0 on average for random ones, at least -0.5.

    Arguments, type of the result and errors are those of `rand_score`.

    Example:
        >>> adjusted_rand_score([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
        >>> round(adjusted_rand_score([0, 0, 1, 2], [0, 0, 1, 1]), 4)
        0.5714
    """
    return _like(adjusted_rand_of(count_pairs(count(labels_true, labels_pred))), labels_true)


def _like(score: float, labels: Labels) -> Tensor | float:
    if not isinstance(labels, Tensor):
        return score
    return torch.tensor(score, dtype=torch.float32 if labels.device.type == "mps" else torch.float64).to(labels.device)


def _sum_of_squares(counts: Tensor, total: int) -> int:
    """Return the exact sum of squares of counts that add up to `total`."""
    if total <= _EXACT_SQUARES:
        return int((counts * counts).sum()) if counts.is_cuda else int(counts.dot(counts))
    return sum(size**2 for size in counts.tolist())
