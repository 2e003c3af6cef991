"""The tables of a results file, for a terminal and for the documentation; nothing here needs torch."""

from collections.abc import Callable
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

Row = dict[str, Any]


class Column(NamedTuple):
    """A column: its heading, the row's key, the number of decimals."""

    heading: str
    key: str
    digits: int = 2
    quartiles: bool = False


COUNTS = [
    Column("busy ms", "busy_ms", 3),
    Column("launches", "launches", 1),
    Column("kernels", "kernels", 1),
    Column(".item()", "items", 1),
    Column("to host", "to_host", 1),
    Column("from host", "from_host", 1),
    Column("waits", "waits", 1),
]
TIMES = [
    Column("wall ms (quartiles)", "wall", 3, True),
    Column("x", "wall_ratio"),
    Column("host ms", "host", 3),
    Column("device ms", "device", 3),
    Column("x", "device_ratio"),
]
STEPS = [Column("ms a step (quartiles)", "ms", 2, True), Column("mean ms", "mean_ms"), Column("images/s", "rate", 0)]
NOT_IN_PAGES = {"host", "kernels", "items", "to_host", "from_host"}
COLUMNS: dict[str, list[Column]] = {
    "input": [*TIMES, *COUNTS, Column("GB/s", "gigabytes_per_second", 0), Column("TFLOP/s", "teraflops", 0)],
    "step": [*STEPS, *COUNTS],
    "compiled": [*STEPS, *COUNTS, Column("first step, s", "first_seconds", 1)],
    "optimizers": [*TIMES, *COUNTS, Column("busy x", "busy_ratio")],
    "activations": [Column("ms (quartiles)", "device", 4, True), Column("x ReLU", "device_ratio")],
    "kmeans": [
        Column("ms a pass (quartiles)", "ms", 2, True),
        Column("x flash-kmeans", "ratio"),
        Column("objective - 1, ppm of ours", "excess_ppm", 2),
        Column("labels not the nearest, ppm", "wrong_ppm", 1),
        Column("MB beside the data", "extra_mb", 0),
        Column("seconds of a whole fit", "seconds", 1),
    ],
    "tests": [Column("outcome", "outcome"), Column("seconds", "seconds", 1)],
    "record": [
        Column("seconds (quartiles)", "train_seconds", 3, True),
        Column("x plain script", "ratio"),
        Column("accuracy with six views, %", "accuracy_tta"),
        Column("its deviation", "deviation"),
        Column("accuracy, %", "accuracy"),
        Column("runs", "runs", 0),
    ],
    "experiments": [
        Column("test accuracy, %", "accuracy"),
        Column("deviation", "deviation"),
        Column("runs", "runs", 0),
    ],
    "environment": [],
}


def text(value: Any, column: Column) -> str:
    """Return a value as the column shows it.

    >>> text({"median": 1.0, "low": 0.5, "high": 2.0}, Column("ms", "ms", 1, True))
    '1.0 (0.5 to 2.0)'
    """
    if value is None:
        return ""
    if isinstance(value, dict):
        shown = text(value["median"], column)
        low, high = (text(value[end], column) for end in ("low", "high"))
        return f"{shown} ({low} to {high})" if column.quartiles else shown
    return f"{value:,.{column.digits}f}" if isinstance(value, (int, float)) else str(value)


def cases(part: str, rows: list[Row]) -> dict[str, tuple[list[Column], list[Row]]]:
    """Return the rows of each case, with the columns in which one of them has a value."""
    result = {}
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        columns = [column for column in COLUMNS[part] if any(column.key in row for row in own)]
        # Rows that have values first.
        result[case] = columns, sorted(own, key=lambda row: not any(column.key in row for column in columns))
    return result


def note(row: Row) -> str:
    """Return why values of a row are missing, and what it notes."""
    return "; ".join(str(row[key]) for key in ("error", "skipped", "trace_error", "note") if key in row)


def tables(part: str, content: dict[str, Any]) -> list[Any]:
    """Return the tables of a part for a terminal; of the environment its lines.

    Names and notes are `Text`, as rich would take their brackets for markup.
    """
    if part == "environment":
        rows = content["rows"]
        return [Text(f"{name}: {value}") for row in rows for name, value in row.items() if name not in ("case", "name")]
    result = []
    for case, (columns, rows) in cases(part, content["rows"]).items():
        title = f"{part}: {case}"
        table = Table(title=Text(title), title_justify="left", min_width=len(title) + 4)
        table.add_column("")
        for column in columns:
            table.add_column(column.heading, justify="right")
        notes = any(note(row) for row in rows)
        if notes:
            table.add_column("note")
        for row in worth_printing(rows) if part == "tests" else rows:
            cells = [row["name"], *(text(row.get(column.key), column) for column in columns)]
            table.add_row(*(Text(cell) for cell in [*cells, *([note(row)[:120]] if notes else [])]))
        result.append(table)
    return result


def worth_printing(rows: list[Row]) -> list[Row]:
    """Return the rows of the tests that did not pass, their sum, and the five that took longest."""
    slow = sorted(rows, key=lambda row: -row.get("seconds", 0))[:6]
    return [row for row in rows if row.get("outcome") not in ("passed", "skipped") or row in slow]


def markdown(part: str, content: dict[str, Any]) -> str:
    """Return the tables of a part as the documentation shows them: fewer columns, and no rows that were left out.

    What failed is shown.
    """
    return "\n\n".join(
        _markdown(
            case,
            [column for column in columns if column.key not in NOT_IN_PAGES],
            [row for row in rows if "error" in row or any(column.key in row for column in columns)],
        )
        for case, (columns, rows) in cases(part, content["rows"]).items()
        if columns
    )


def _markdown(case: str, columns: list[Column], rows: list[Row]) -> str:
    line: Callable[[list[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    lines = [line([case, *(column.heading for column in columns)]), line(["---", *["---:"] * len(columns)])]
    for row in rows:
        name = row["name"] + (f" (failed: {row['error'].replace('|', '/')[:80]})" if "error" in row else "")
        lines.append(line([name, *(text(row.get(column.key), column) for column in columns)]))
    return "\n".join(lines)
