"""Loggers that a resumed run goes on with: nothing deleted, nothing twice."""

import csv
import io
import math
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only


class CSVLog(Logger):
    """One CSV file with a row for each time metrics were logged: ``step`` first, a column a metric.

    Lightning's CSVLogger deletes what an earlier run has written into its folder. This one appends; a new metric
    rewrites the file, through a second one put in its place, with one more column. Its state is the number of rows:
    loading the state that a checkpoint holds drops the rows written after that checkpoint, which the resumed run writes
    again.

    Args:
        path: The file.

    Example:
        >>> import tempfile
        >>> log = CSVLog(Path(tempfile.mkdtemp()) / "metrics.csv")
        >>> log.log_metrics({"loss": 0.5}, step=1); log.log_metrics({"loss": 0.25, "accuracy": 1.0}, step=2)
        >>> log.rows
        2
        >>> print(log.path.read_text().strip())
        step,loss,accuracy
        1,0.5,
        2,0.25,1.0
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns, self.rows = ["step"], 0
        if self.path.exists():
            table = _read(self.path)
            self._columns, self.rows = table[0], len(table) - 1
            _replace(self.path, table)  # without a last row that a kill has cut short

    @property
    def name(self) -> str:
        """Always ``csv``."""
        return "csv"

    @property
    def version(self) -> str:
        """The run folder's name."""
        return self.path.parent.name

    @property
    def log_dir(self) -> str:
        """The folder that the file lies in."""
        return str(self.path.parent)

    @property
    def save_dir(self) -> str:
        """The folder that the file lies in."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        if "step" in metrics:
            raise ValueError("a metric is named 'step', which is the first column's name: rename the metric")
        row = {"step": "" if step is None else str(step)}
        row |= {name: repr(float(value)) for name, value in metrics.items()}
        new = [name for name in row if name not in self._columns]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if new or not self.path.exists():
            table = _read(self.path)[1:] if self.path.exists() else []
            self._columns += new
            _replace(self.path, [self._columns, *([*old, *[""] * (len(self._columns) - len(old))] for old in table)])
        with open(self.path, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([row.get(name, "") for name in self._columns])
        self.rows += 1

    def state_dict(self) -> dict[str, int]:
        """The number of rows."""
        return {"rows": self.rows}

    @rank_zero_only
    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Keep the first ``rows`` rows."""
        if state_dict["rows"] < self.rows:
            _replace(self.path, _read(self.path)[: state_dict["rows"] + 1])
            self.rows = state_dict["rows"]


class TensorBoardLog(TensorBoardLogger):
    """TensorBoardLogger for one run folder, with its hyperparameters written once: at the end, with the final metrics.

    TensorBoard's HParams tab takes a run's columns from the first hyperparameters written, so those that Lightning
    writes before training, without any metric, would hide the final ones.

    Args:
        folder: The run's TensorBoard folder.
        purge_step: On resume, TensorBoard hides what was logged at this step and after it.
        log_graph: Write the model's graph.
    """

    def __init__(self, folder: str | Path, purge_step: int | None = None, log_graph: bool = False) -> None:
        folder = Path(folder)
        super().__init__(
            folder.parent,
            name="",
            version=folder.name,
            default_hp_metric=False,
            log_graph=log_graph,
            purge_step=purge_step,
        )

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write ``params`` when there are ``metrics`` to go with them."""
        if metrics:
            super().log_hyperparams(params, {name: float(value) for name, value in metrics.items()}, step)

    @rank_zero_only
    def save(self) -> None:
        """Flush the events; the hyperparameters are in the run's config.yaml."""
        if self._experiment is not None:
            self._experiment.flush()


def _read(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        table = [row for row in csv.reader(file) if row]
    # A kill in the middle of a write leaves a short last row.
    return [row for row in table if len(row) == len(table[0])] if table else [["step"]]


def _replace(path: Path, table: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text.getvalue())
    os.replace(partial, path)


def read_column(path: str | Path, name: str) -> list[tuple[int, float]]:
    """The ``(step, value)`` pairs of one metric in a :class:`CSVLog`'s file, in the order written.

    Raises:
        ValueError: If the file has no such column.
    """
    table = _read(Path(path))
    if name not in table[0]:
        raise ValueError(f"{path} has no column {name!r}: it has {', '.join(table[0])}")
    column = table[0].index(name)
    pairs = [(int(row[0]), float(row[column])) for row in table[1:] if row[column]]
    return [(step, value) for step, value in pairs if not math.isnan(value)]
