"""Tables, lists of files and plain lines in the terminal."""

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table


def print_rows(title: str, rows: dict[str, dict[str, Any]], first: str = "") -> None:
    """Print a table with one row a name.

    Args:
        title: Title of the table.
        rows: Name -> column -> value, formatted by `cell`; a missing value leaves an empty cell.
        first: Heading of the names.
    """
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    table = Table(Column(first, overflow="fold"), title=title, title_justify="left")
    for column in columns:
        numbers = all(isinstance(row.get(column, 0), int | float) for row in rows.values())
        table.add_column(column, justify="right" if numbers else "left")
    for name, row in rows.items():
        table.add_row(name, *(cell(row[column]) if column in row else "" for column in columns))
    Console(width=max(Console().width, 120)).print(table)


def cell(value: Any) -> str:
    """Return a value as the tables show it: floats with four decimals, integers with thousands separators."""
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else str(value)
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.4f}"
    return f"{value:.3e}"


def print_files(folder: Path, files: dict[str, str]) -> None:
    """Print the path of each file (description -> name) in the output `folder`."""
    for name, file in files.items():
        say(f"{name:<11} {folder / file}")


def say(line: str) -> None:
    """Print a line unwrapped and unformatted, so that it can be copied."""
    Console(soft_wrap=True, highlight=False).print(line, markup=False)
