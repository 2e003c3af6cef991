"""A CSV file as numbers."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = {"", "na", "nan", "null", "none", "?"}
MAX_WORDS = 100  # a column with more different words is refused: probably names, or a mistyped number


def read_csv(path: Path, target: str | int, allow_missing: bool) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Read a table with a target column; columns of words become one 0/1 column for each word.

    Args:
        path: the file, separated by commas; its first line is a header if it has a word where the second has a number.
        target: name or number of the target column.
        allow_missing: give missing numbers as NaN.

    Returns:
        Features float64 `[N, D]`, and the target: float64 `[N]`, or words `[N]`.

    Raises:
        ValueError: if the file is not such a table.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file ({error}); give a text file separated by commas") from error
    if len(lines) < 2:
        raise ValueError(f"{path} has {len(lines)} lines, too few for a table")
    width = len(lines[0])
    for number, cells in enumerate(lines, start=1):
        if len(cells) != width:
            raise ValueError(f"line {number} of {path} has {len(cells)} cells, the first has {width}; correct the file")
    has_header = any(_is_word(a) and not _is_word(b) for a, b in zip(lines[0], lines[1], strict=True))
    header = lines.pop(0) if has_header else [str(number) for number in range(width)]
    columns = list(zip(*lines, strict=True))
    which = _position(path, target, header, has_header)

    features: list[NDArray[np.float64]] = []
    for position, (name, column) in enumerate(zip(header, columns, strict=True)):
        if position != which:
            features += _encode(path, name, column, allow_missing)
    if not features:
        raise ValueError(f"{path} has no column besides the target {header[which]!r}; add features")
    values = columns[which]
    for row, cell in enumerate(values):
        if cell.lower() in MISSING:
            raise ValueError(f"row {row} of {path} has no target {header[which]!r}; remove the row")
    is_text = any(_is_word(cell) for cell in values)
    return np.stack(features, axis=1), np.array(values) if is_text else np.array([float(cell) for cell in values])


def _is_word(cell: str) -> bool:
    """Whether a cell is neither a number nor missing."""
    if cell.lower() in MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _position(path: Path, target: str | int, header: list[str], has_header: bool) -> int:
    if isinstance(target, str) and target in header and has_header:
        return header.index(target)
    try:
        number = int(target)
    except ValueError:
        names = ", ".join(header) if has_header else f"numbers 0 to {len(header) - 1}, as there is no header"
        raise ValueError(f"target {target!r} is not a column of {path}; its columns are {names}") from None
    if not -len(header) <= number < len(header):
        raise ValueError(f"target {number} is not a column of {path}, which has {len(header)} columns")
    return number % len(header)


def _encode(path: Path, name: str, cells: tuple[str, ...], allow_missing: bool) -> list[NDArray[np.float64]]:
    """One column of numbers, or one column of 0 and 1 for each word."""
    gaps = sum(cell.lower() in MISSING for cell in cells)
    if gaps and not allow_missing:
        raise ValueError(f"column {name!r} of {path} lacks {gaps} values; fill them, or set missing to mean")
    words = [cell for cell in cells if _is_word(cell)]
    if not words:
        column = np.array([float("nan") if cell.lower() in MISSING else float(cell) for cell in cells])
        if np.isinf(column).any():
            raise ValueError(f"column {name!r} of {path} holds an infinite number; correct it or remove the row")
        return [column]
    kinds = sorted(set(cells))
    if len(kinds) > MAX_WORDS:
        raise ValueError(
            f"column {name!r} of {path} has {len(kinds)} different entries that are not all numbers, such as "
            f"{words[0]!r}; remove it or encode it"
        )
    return [np.array([float(cell == kind) for cell in cells]) for kind in kinds]
