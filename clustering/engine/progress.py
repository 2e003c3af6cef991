"""A progress bar for long fits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def progress(shown: bool, limit: int) -> Iterator[Callable[[str, float | None], None]]:
    """A function that is told what happens, and the objective after each pass over the data."""
    if not shown:
        yield lambda text, objective: None
        return
    columns = (TextColumn("k-means: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("looking at the data", total=limit)

        def report(text: str, objective: float | None) -> None:
            value = "" if objective is None else f", objective {objective:.6g}"
            bar.update(task, description=text + value, advance=0 if objective is None else 1)

        yield report
        bar.update(task, total=bar.tasks[0].completed)
