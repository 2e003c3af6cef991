"""Checks of constructor arguments, each with a one-line error: the argument, the constraint, the value found."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor


def at_least(name: str, value: int, minimum: int) -> int:
    """Return `value`, or raise a ValueError if it is not an integer of at least `minimum`.

    >>> at_least("batch_size", 32, 1)
    32
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, found {value!r}")
    return value


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """Return `value`, or raise a ValueError if it is not one of `choices`.

    >>> one_of("flip", "none", ("none", "random"))
    'none'
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, found {value!r}")
    return value


def size(name: str, value: int | float | None) -> int | float | None:
    """Return `value`, or raise a ValueError if it is no size of a part: None, a count >= 0, or a fraction in [0, 1].

    >>> size("val_size", 0.1)
    0.1
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{name} must be a count of examples or a fraction between 0 and 1, found {value!r}")
    if isinstance(value, float) and value > 1 and value.is_integer():
        return int(value)  # jsonargparse reads a count as a float if another module has used the union the other way
    if isinstance(value, float) and value > 1:
        raise ValueError(f"{name} must be between 0 and 1 as a fraction, found {value!r}; give a count as an integer")
    return value


def share(name: str, value: float) -> float:
    """Return a share of a whole, from 0 to 1.

    >>> share("label_noise", 0.4)
    0.4
    """
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a share from 0 to 1, found {value}")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """Return a finite number of at least 0.

    >>> not_negative("mixup", 0.2)
    0.2
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number of at least 0, found {value!r}")
    return float(value)


def limits(name: str, value: Sequence[float], most: float = float("inf")) -> tuple[float, float]:
    """Return two positive numbers, the first not above the second.

    >>> limits("crop_scale", [0.08, 1])
    (0.08, 1.0)
    """
    numbers = [value] if isinstance(value, (int, float)) else [*value]
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] <= most or numbers[1] == float("inf"):
        above = "" if most == float("inf") else f" of at most {most:g}"
        raise ValueError(f"{name} must be two positive numbers{above}, the smaller one first, found {value!r}")
    return float(numbers[0]), float(numbers[1])


def own_path(path: str | os.PathLike[str]) -> str:
    """Return a path with the user's home folder in place of `~`.

    >>> own_path("data")
    'data'
    """
    return os.path.expanduser(str(path))


def labels_below(labels: Tensor, module: Any) -> None:
    """Refuse labels for which a LightningModule with an attribute `num_classes` has no logit.

    >>> import torch
    >>> labels_below(torch.tensor([0, 9]), None)
    """
    count = getattr(module, "num_classes", None)
    if isinstance(count, int) and len(labels) and int(labels.max()) >= count:
        raise ValueError(
            f"labels must be below {count}, the number of logits, found labels from {int(labels.min())} to "
            f"{int(labels.max())}: set num_classes (now {count}) to the data's"
        )
