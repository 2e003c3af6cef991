"""The record of a benchmark, `results/<name>.json`, from which `results/tables.py` writes the pages' tables."""

import datetime
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks._gpu.checkout import commit

ROOT = Path(__file__).parents[1]


def write_record(path: Path | None, tables: Sequence[Table], notes: Sequence[str] = ()) -> None:
    """Write the tables that a benchmark has printed, with its command and the machine; nothing without a path.

    Args:
        path: File to write.
        tables: Tables, whose titles and cells are kept as they are printed.
        notes: Lines printed beside them.
    """
    if path is None:
        return
    content = {
        "benchmark": Path(sys.argv[0]).stem,
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
        "environment": environment(),
        "tables": [as_data(table) for table in tables],
        "notes": list(notes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def as_data(table: Table) -> dict[str, Any]:
    """Return a table's title, its columns' names and its rows."""
    cells = [list(column.cells) for column in table.columns]
    return {
        "title": str(table.title or ""),
        "columns": [str(column.header) for column in table.columns],
        "rows": [list(map(str, row)) for row in zip(*cells, strict=True)],
    }


def load_before() -> str:
    """Return a note with the machine's load, the mean number of running processes, of the last minute and the last 15.

    >>> load_before().startswith("load of the machine before")
    True
    """
    if not hasattr(os, "getloadavg"):
        return "load of the machine before: not known"
    last, _, long = os.getloadavg()
    return f"load of the machine before: {last:.1f} (the last minute), {long:.1f} (the last 15)"


def environment() -> dict[str, Any]:
    """Return where and with what a benchmark runs."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(ROOT),
    }
