"""A CSV file as numbers, with names."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSING = {"", "na", "nan", "null", "none", "?"}
MAX_WORDS = 100  # a column with more distinct words is refused: it holds names, or a mistyped number


class Table(NamedTuple):
    """The contents of a CSV file."""

    features: NDArray[np.float64]  # [N, D]
    target: NDArray[Any]  # [N], float64 or words
    names: list[str]  # of the D columns; the 0/1 column of a word is called `column=word`
    target_name: str


def read_table(
    path: Path, target: str | int, allow_missing: bool, header: bool | None = None, names: Sequence[str] = ()
) -> Table:
    """Read a table with a target column; a column of words becomes one 0/1 column per word.

    Args:
        path: The file, separated by commas.
        target: Name or number of the target column.
        allow_missing: Return missing numbers as NaN instead of raising an error.
        header: Whether the first line holds names; None: if it has a word where the second line has a number.
        names: Names of all columns, or of all but the target, instead of the file's.

    Raises:
        ValueError: If the file is not such a table.
    """
    lines = _read_lines(path)
    width = len(lines[0])
    if header is None:
        header = any(_is_word(a) and not _is_word(b) for a, b in zip(lines[0], lines[1], strict=True))
    own = lines.pop(0) if header else [str(number) for number in range(width)]
    given = list(names)
    if len(given) not in (0, width - 1, width):
        raise ValueError(f"{path} has {width} columns, found {len(given)} names; name all, or all features")
    which = _position(path, target, given if len(given) == width else own, header or len(given) == width)
    if len(given) == width - 1:
        given.insert(which, own[which] if header else "target")
    titles = given or own

    columns = list(zip(*lines, strict=True))
    features: list[tuple[str, NDArray[np.float64]]] = []
    for position, (name, column) in enumerate(zip(titles, columns, strict=True)):
        if position != which:
            features += _encode(path, name, column, allow_missing)
    if not features:
        raise ValueError(f"{path} has no column besides the target {titles[which]!r}; add features")
    values = columns[which]
    for row, cell in enumerate(values):
        if cell.lower() in MISSING:
            raise ValueError(f"row {row} of {path} has no target {titles[which]!r}; remove the row")
    is_text = any(_is_word(cell) for cell in values)
    labels = np.array(values) if is_text else np.array([float(cell) for cell in values])
    encoded, numbers = zip(*features, strict=True)
    return Table(np.stack(numbers, axis=1), labels, list(encoded), titles[which])


def _read_lines(path: Path) -> list[list[str]]:
    """Return the cells of a file: at least two lines, all of the same length."""
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
    return lines


def _is_word(cell: str) -> bool:
    """Return whether a cell is neither a number nor missing."""
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


def _encode(
    path: Path, name: str, cells: tuple[str, ...], allow_missing: bool
) -> list[tuple[str, NDArray[np.float64]]]:
    """Return one column of numbers, or one 0/1 column per word, each with its name."""
    gaps = sum(cell.lower() in MISSING for cell in cells)
    if gaps and not allow_missing:
        raise ValueError(f"column {name!r} of {path} lacks {gaps} values; fill them, or set missing to mean")
    words = [cell for cell in cells if _is_word(cell)]
    if not words:
        column = np.array([float("nan") if cell.lower() in MISSING else float(cell) for cell in cells])
        if np.isinf(column).any():
            raise ValueError(f"column {name!r} of {path} holds an infinite number; correct it or remove the row")
        return [(name, column)]
    kinds = sorted(set(cells))
    if len(kinds) > MAX_WORDS:
        raise ValueError(
            f"column {name!r} of {path} has {len(kinds)} different entries that are not all numbers, such as "
            f"{words[0]!r}; remove it or encode it"
        )
    return [(f"{name}={kind or 'missing'}", np.array([float(cell == kind) for cell in cells])) for kind in kinds]
