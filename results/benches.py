"""Markdown tables of a benchmark's record, which its `--results FILE` writes."""

from collections.abc import Mapping, Sequence
from typing import Any


def head(record: Mapping[str, Any]) -> str:
    """Return the line that says how and where a benchmark was made."""
    where = record["environment"]
    return (
        f"`{record['command']}`: {where['processor']}, {where['cores']} cores, Python {where['python']}, "
        f"torch {where['torch']}, {where['date'][:10]}, commit {where['commit']}:"
    )


def markdown(part: str, record: Mapping[str, Any]) -> str:
    """Return the tables: `all` of them with the notes, or one by its number, from 1 on.

    Raises:
        ValueError: If there is no such table.
    """
    made = record["tables"]
    if part != "all" and part not in map(str, range(1, len(made) + 1)):
        raise ValueError(f"a benchmark's part is all or a number from 1 to {len(made)}, found {part}")
    chosen = made if part == "all" else [made[int(part) - 1]]
    notes = [f"- {note}" for note in record["notes"]] if part == "all" else []
    return "\n\n".join([*map(_table, chosen), *(["\n".join(notes)] if notes else [])])


def _table(made: Mapping[str, Any]) -> str:
    rows: Sequence[Sequence[str]] = [made["columns"], *made["rows"]]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "| --- |" + " ---: |" * (len(made["columns"]) - 1))
    return "\n".join([f"{made['title']}:", "", *lines] if made["title"] else lines)
