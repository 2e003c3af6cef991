"""A CSV file as numbers, with names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .csv_columns import EXACT, Columns, Text, numbers
from .csv_numbers import MISSING, WORDS_TOO, find_decimal, is_missing, is_number
from .csv_text import Rows, read_cells
from .messages import say, shown

Cells = tuple[str, ...]


class Table(NamedTuple):
    """The contents of a CSV file."""

    features: NDArray[np.float64]  # [N, D]
    target: NDArray[Any]  # [N], float64 or words
    names: list[str]  # of the D columns; the 0/1 column of a word is called `column=word`
    target_name: str


def read_table(
    path: Path,
    target: str | int,
    allow_missing: bool,
    header: bool | None = None,
    names: Sequence[str] = (),
    *,
    drop: str | Sequence[str] = (),
    text: Text = "auto",
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    prefix: str = "--data.",
) -> Table:
    """Read a table with a target column; a column of words becomes one 0/1 column per word. Say what was read.

    Args:
        path: The file.
        target: Name or number of the target column.
        allow_missing: Return missing numbers as NaN instead of raising an error.
        header: Whether the first line holds names; None: if it has a word where the other lines have a number, or
            words that do not come again.
        names: Names of all columns, or of all but the target, instead of the file's.
        drop: Names or numbers of columns to leave out, or one text with commas between them.
        text: Columns of words: `"auto"` refuses dates, and words that differ in most rows; `"onehot"` takes them as
            any others; `"drop"` leaves all columns of words out.
        separator: See `read_cells`.
        decimal: Decimal mark of numbers, a point or a comma; None: found in the file.
        encoding: See `read_cells`.
        prefix: How options are written in errors.

    Raises:
        ValueError: If the file is not such a table, or if something in it has two meanings.
    """
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal must be a point or a comma, found {decimal!r}")
    where = shown(path)
    rows, mark = read_cells(path, separator, encoding, prefix)
    width = len(rows[0])
    remarks = []
    if header is None:
        header = _has_header(rows)
        if not header:
            remarks.append("no header found: columns have numbers")
        elif all(map(is_number, rows[0])):
            remarks.append(f"the first line ({', '.join(rows[0])}) is taken as the header")
    own = [name or f"column {k}" for k, name in enumerate(rows.pop(0))] if header else [str(k) for k in range(width)]
    if len(rows) < 2:
        raise ValueError(f"{where} has one row, too few for a table; give at least two rows of values")
    given = list(names)
    if len(given) not in (0, width - 1, width):
        raise ValueError(f"{where} has {width} columns, found {len(given)} names; name all, or all features")
    which = _position(where, target, given if len(given) == width else own, header or len(given) == width)
    if len(given) == width - 1:
        given.insert(which, own[which] if header else "target")
    titles = given or own
    columns = list(zip(*rows, strict=True))
    left_out = _dropped(where, drop, titles, which)
    unnamed = {k for k in range(width) if header and titles[k] == f"column {k}" and k not in (which, *left_out)}
    unnamed = {k for k in unnamed if all(map(is_missing, columns[k])) or _counts(columns[k])}
    kept = [k for k in range(width) if k not in left_out | unnamed]
    _refuse_twice(where, [titles[k] for k in kept], prefix)
    mark = decimal or find_decimal([columns[k] for k in kept], where, prefix)
    content = Columns(where, mark, text, allow_missing, prefix)
    content.left_out = [titles[k] for k in sorted(left_out | unnamed)]
    content.encode([(titles[k], columns[k]) for k in kept if k != which])
    if not content.features:
        hint = f"; name the {prefix}separator if it has more columns" if width == 1 else "; add features"
        raise ValueError(f"{where} has no column besides the target {titles[which]!r}{hint}")
    labels = _labels(where, titles[which], columns[which], mark)
    encoded, values = zip(*content.features, strict=True)
    say(_summary(where, len(rows), titles[which], content, remarks))
    return Table(np.stack(values, axis=1), labels, list(encoded), titles[which])


def _has_header(rows: Rows) -> bool:
    """Return whether the first row holds names, judged by up to 100 others."""
    first, others = rows[0], rows[1:101]
    if first == [str(k) for k in range(len(first))]:
        return len(first) > 2  # as pandas writes a table without names
    columns = list(zip(*others, strict=True))
    numeric = [all(is_missing(cell) or is_number(cell) or is_number(cell, ",") for cell in one) for one in columns]
    words = [not is_missing(cell) and not is_number(cell) and not is_number(cell, ",") for cell in first]
    if any(numeric):
        return any(word and number for word, number in zip(words, numeric, strict=True))
    fresh = all(cell not in column for cell, column in zip(first, columns, strict=True))
    return all(words) and fresh and len(set(first)) == len(first)


def _counts(cells: Cells) -> bool:
    return cells in (tuple(map(str, range(len(cells)))), tuple(map(str, range(1, len(cells) + 1))))


def _position(where: str, target: str | int, header: list[str], has_header: bool) -> int:
    """Return the number of the target column."""
    if isinstance(target, str) and target in header and has_header:
        if header.count(target) > 1:
            places = [str(k) for k, name in enumerate(header) if name == target]
            raise ValueError(
                f"target {target!r} names {len(places)} columns of {where}; give its number, {' or '.join(places)}"
            )
        return header.index(target)
    try:
        number = int(target)
    except ValueError:
        names = ", ".join(header) if has_header else f"numbers 0 to {len(header) - 1}, as there is no header"
        raise ValueError(f"target {target!r} is not a column of {where}; its columns are {names}") from None
    if not -len(header) <= number < len(header):
        raise ValueError(f"target {number} is not a column of {where}, which has {len(header)} columns")
    return number % len(header)


def _dropped(where: str, drop: str | Sequence[str], titles: list[str], target: int) -> set[int]:
    """Return the numbers of the columns to leave out."""
    if isinstance(drop, str):
        drop = [drop] if drop in titles else [one.strip() for one in drop.split(",") if one.strip()]
    found: set[int] = set()
    for name in map(str, drop):
        same = {k for k, title in enumerate(titles) if title == name}
        if not same and not (name.isdecimal() and int(name) < len(titles)):
            raise ValueError(f"drop: {name!r} is not a column of {where}; its columns are {', '.join(titles)}")
        found |= same or {int(name)}
    if target in found:
        raise ValueError(f"drop: {titles[target]!r} of {where} is the target; choose another target, or keep it")
    return found


def _refuse_twice(where: str, titles: list[str], prefix: str) -> None:
    twice = next((name for name in titles if titles.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{where} has two columns {twice!r}; rename one, or leave one out by its number, {prefix}drop NUMBER"
        )


def _labels(where: str, name: str, cells: Cells, decimal: str) -> NDArray[Any]:
    """Return the target as numbers, or as words if it has words or codes that would merge as numbers."""
    is_text = any(not is_missing(cell) and not is_number(cell, decimal) for cell in cells)
    missing = MISSING - WORDS_TOO if is_text else MISSING
    for row, cell in enumerate(cells):
        if cell.lower() in missing:
            raise ValueError(f"row {row} of {where} has no target {name!r}; remove the row")
    if is_text:
        return np.array(cells)
    values = numbers(cells, decimal)
    if np.isinf(values).any():
        raise ValueError(f"target {name!r} of {where} holds an infinite number; correct it or remove the row")
    codes = any(len(cell) > 1 and cell[0] == "0" and cell.isdecimal() for cell in cells)
    return np.array(cells) if codes or (abs(values) >= EXACT).any() else values


def _summary(where: str, rows: int, target: str, content: Columns, remarks: list[str]) -> str:
    """Return a line of what was read."""
    count = len(content.features) - sum(content.words.values())
    parts = [f"{rows:,} rows, target {target}, {count} column{'' if count == 1 else 's'} of numbers"]
    if content.words:
        words = ", ".join(f"{name} ({count})" for name, count in content.words.items())
        parts.append(f"a 0/1 column for each word of {words}")
    parts += [f"left out {', '.join(content.left_out)}"] if content.left_out else []
    parts += ["decimal commas"] if content.decimal == "," else []
    return f"{where}: {shown('; '.join(parts + remarks + content.remarks))}"
