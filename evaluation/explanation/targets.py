"""Which of a network's scores to explain, and what they are called."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor


def display_names(count: int, target_names: Sequence[Any] | Mapping[Any, Any] | None, is_regression: bool) -> list[Any]:
    """Return the names of ``count`` scores: given ones, else their indices (``"y"`` for the only one of a regression).

    Raises:
        ValueError: If names and scores are not equally many.

    Example:
        >>> display_names(3, {1: "dog"}, is_regression=False)
        [0, 'dog', 2]
    """
    if target_names is None:
        return ["y"] if is_regression and count == 1 else list(range(count))
    if isinstance(target_names, Mapping):
        unknown = [name for name in target_names if name not in range(count)]
        if unknown:
            raise ValueError(f"target_names must be keyed by 0..{count - 1}, got {unknown[0]!r}")
        return [target_names.get(index, index) for index in range(count)]
    if len(target_names) != count:
        raise ValueError(f"target_names must name each of the {count} scores, got {len(target_names)} names")
    return list(target_names)


def find_target(target: Any, names: Sequence[Any]) -> int:
    """Return the index of a target given by its name or its index.

    Raises:
        ValueError: If there is none.
    """
    if target in names:
        return list(names).index(target)
    if isinstance(target, int | np.integer) and not isinstance(target, bool) and 0 <= target < len(names):
        return int(target)
    known = ", ".join(repr(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
    raise ValueError(f"there is no target {target!r}: the targets are {known}")


def top_targets_of(scores: Tensor, count: int) -> list[int]:
    """Return the indices of the highest scores ``[K]``, or of the lowest ones if ``count`` is negative."""
    if isinstance(count, bool) or not isinstance(count, int) or count == 0:
        raise ValueError(f"top_targets must be an integer other than 0, got {count!r}")
    return scores.topk(min(abs(count), len(scores)), largest=count > 0).indices.tolist()


def probabilities(scores: Tensor) -> Tensor:
    """Return the probabilities of logits ``[K]``; one logit is that of the second of two classes."""
    return scores.softmax(dim=0) if len(scores) > 1 else scores.sigmoid()
