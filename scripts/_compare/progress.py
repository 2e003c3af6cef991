"""A comparison in the terminal: the progress of its runs, and the table at the end."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from _common.console import literal, print_rows, say
from _common.errors import warn
from _common.run import shell
from _compare.engines import Processes
from _compare.ray import Ray
from _compare.report import ensemble_rows, summary_row
from _compare.runs import OUTCOME, Task, outcome
from _compare.tuning_report import tuning_rows, warnings

LONG = ("p", "McNemar's p", "accuracy's, over test examples")
"""Columns that are on the page only."""


def make_runs(tasks: Sequence[Task], engine: Processes | Ray, metric: str, folder: Path, what: str = "runs") -> None:
    """Make the runs (or `what` they are called) that have not finished, with a progress bar."""
    ended = {task.folder: outcome(task.folder) for task in tasks}
    left = [task for task in tasks if (ended[task.folder] or {}).get("status") != "finished"]
    if len(left) < len(tasks):
        say(f"{len(tasks) - len(left)} of {len(tasks)} {what} are finished already in {folder}")
        check_metric([task for task in tasks if task not in left], metric)
    for task in left:  # a failed run is tried again
        (task.folder / OUTCOME).unlink(missing_ok=True)
    running: dict[Path, str] = {}
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(
        what, *columns, TextColumn("{task.description}", markup=False), console=Console(), transient=True
    ) as progress:
        bar = progress.add_task("", total=len(tasks), completed=len(tasks) - len(left))

        def started(task: Task) -> None:
            running[task.folder] = task.title
            progress.update(bar, description="; ".join(running.values()))

        try:
            with closing(engine.run(left, started)) as done:
                for task in done:
                    running.pop(task.folder, None)
                    progress.update(bar, advance=1, description="; ".join(running.values()))
                    progress.console.print(literal(_line(task, metric)), highlight=False, soft_wrap=True)
                    check_metric([task], metric)
        except KeyboardInterrupt:
            progress.stop()
            say(f"interrupted; the same command with --output {shell(folder)} continues")
            raise SystemExit(130) from None


def _line(task: Task, metric: str) -> str:
    ended = outcome(task.folder) or {}
    if ended.get("status") != "finished":
        return f"{task.title}: failed: {ended.get('error')}"
    return f"{task.title}: {metric} {ended['metrics'].get(metric, float('nan')):.4f}"


def check_metric(tasks: Sequence[Task], metric: str) -> None:
    """Check with the first finished run that there is such a metric."""
    for task in tasks:
        metrics = (outcome(task.folder) or {}).get("metrics")
        if metrics is not None and metric not in metrics:
            raise ValueError(f"--metric {metric}: a run has none of that name, only {', '.join(metrics)}")


def print_results(results: dict[str, Any]) -> None:
    """Print the table and the note on the number of seeds."""
    if results["tuning"] is not None:
        tuning = results["tuning"]
        title = f"chosen by {tuning['metric']} among {tuning['trials']} trials each"
        print_rows(title, tuning_rows(tuning), " × ".join(results["axes"]))
        for line in warnings(tuning):
            warn(line)
    rows = {name: summary_row(results, name) for name in results["table"]}
    rows = {name: {key: value for key, value in row.items() if key not in LONG} for name, row in rows.items()}
    short = ("runs", "mean ± sd")
    rows |= {name: {key: row[key] for key in short} for name, row in ensemble_rows(results).items()}
    print_rows(f"{results['metric']}, against {results['baseline']}", rows, " × ".join(results["axes"]))
    say(results["note"])
