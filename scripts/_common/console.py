"""Tables, lists of files and plain lines in the terminal."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


def print_rows(
    title: str, rows: dict[str, dict[str, Any]], first: str = "", chosen: dict[str, str] | None = None
) -> None:
    """Print rows, as name -> key -> value, in a table.

    Args:
        title: Title of the table.
        rows: The rows; a missing value leaves an empty cell.
        first: Heading of the names.
        chosen: Key -> heading of its column; by default the keys are the headings.
    """
    if chosen is not None:
        rows = {name: {chosen[key]: row[key] for key in chosen if key in row} for name, row in rows.items()}
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    table = Table(Column(literal(first), overflow="fold"), title=literal(title), title_justify="left")
    for column in columns:
        numbers = all(isinstance(row.get(column, 0), int | float) for row in rows.values())
        table.add_column(literal(column), justify="right" if numbers else "left")
    for name, row in rows.items():
        cells = (cell(row[column]) if column in row else "" for column in columns)
        table.add_row(literal(name), *map(literal, cells))
    with suppress(OSError):
        Console(width=max(Console().width, 120)).print(table)


def cell(value: Any, sign: str = "") -> str:
    """Return a value as tables show it: integers with thousands separators, floats with four decimals, None empty.

    A `sign` of `"+"` is written before positive floats too.
    """
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: ""}[value]
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e6:
        return f"{value:{sign},.4f}"
    return f"{value:{sign}.3e}"


def print_files(folder: Path, files: dict[str, str]) -> None:
    """Print the path of each file (description -> name) in the output `folder`."""
    for name, file in files.items():
        say(f"{name:<11} {folder / file}")


def say(line: str) -> None:
    """Print a line unwrapped and unformatted, so that it can be copied."""
    with suppress(OSError):  # standard output may be a file on a full disk
        Console(soft_wrap=True, highlight=False).print(literal(line))


def literal(text: str) -> Text:
    """Return a text as rich shows it unchanged: nothing in it is markup, an emoji's name or a control character."""
    return Text(plain(text))


def plain(text: str) -> str:
    r"""Return a text that moves no terminal: control characters other than line breaks are written as escapes.

    Example:
        >>> print(plain("a\x1b[2Jb [kg]"))
        a\x1b[2Jb [kg]
    """
    if text.isprintable():
        return text
    from datamodules.files.messages import shown  # which takes seconds, and few texts need it

    return "\n".join(line if line.isprintable() else shown(line) for line in text.split("\n"))
