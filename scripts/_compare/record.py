"""The record of a study, `results/<study>.json`: what was run, where, and every run's metrics."""

import datetime
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _common.run import write_json

ROOT = Path(__file__).parents[2]


def commit() -> str | None:
    """Return the commit of this repository, with a + if files differ from it; None outside of Git."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_record(path: Path, results: Mapping[str, Any], times: Mapping[str, Any]) -> None:
    """Write the record."""
    seconds = {(run["name"], run["seed"]): run["seconds"] for run in times["runs"]}
    runs = [run | {"seconds": seconds[run["name"], run["seed"]]} for run in results["runs"]]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    environment = dict(times["environment"]) | {"commit": commit(), "date": now}
    kept = {key: value for key, value in results.items() if key not in ("runs", "files")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path, {"study": path.stem, "command": times["command"], "environment": environment} | kept | {"runs": runs}
    )
