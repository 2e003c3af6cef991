"""Checks of constructor arguments: one line that says what is wrong, the value found and what to do."""

import os
from collections.abc import Sequence
from pathlib import Path


def at_least(name: str, value: int, minimum: int) -> int:
    """Return `value` when it is a whole number of at least `minimum`.

    Raises:
        ValueError: if it is not.

    >>> at_least("batch_size", 32, 1)
    32
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, but is {value!r}")
    return value


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """Return `value` when it is one of `choices`.

    Raises:
        ValueError: if it is not.

    >>> one_of("flip", "none", ("none", "random"))
    'none'
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, but is {value!r}")
    return value


def size(name: str, value: int | float | None) -> int | float | None:
    """Return `value` when it can be the size of a part: None, a count of examples >= 0, or a fraction in [0, 1].

    Raises:
        ValueError: if it can not.

    >>> size("val_size", 0.1)
    0.1
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{name} must be a count of examples or a fraction between 0 and 1, but is {value!r}")
    if isinstance(value, float) and value > 1:
        raise ValueError(f"{name} as a fraction must lie between 0 and 1, but is {value!r}; give a count as an integer")
    return value


def data_folder(data_dir: str | None) -> str:
    """Return `data_dir`, else the environment's `DATA_DIR`, else `"data"`.

    >>> data_folder("somewhere")
    'somewhere'
    """
    if data_dir is not None:
        return str(data_dir)
    return os.environ.get("DATA_DIR") or "data"


def existing_folder(path: Path, hint: str) -> Path:
    """Return `path` when it is a folder.

    Raises:
        FileNotFoundError: if it is missing, or is not a folder; the message ends with `hint`.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no folder {path}; {hint}")
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; {hint}")
    return path
