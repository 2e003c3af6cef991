"""Loggers that survive a resume without losing or repeating rows."""

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only, rank_zero_warn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from .columns import columns
from .event_file import EventWriter


class CSVLog(Logger):
    """A CSV file with one row per call of `log_metrics`: `step` first, then one column per metric.

    Lightning's CSVLogger deletes the rows of an earlier run in its folder; this one appends. A new metric rewrites the
    file, atomically, with one more column. Its state is the number of rows: loading the state of a checkpoint drops the
    rows written after it, which the resumed run writes again. A row that the disk refuses is dropped, with one warning.

    Attributes:
        rows: Number of rows.
        more: Returns columns that every row gets, such as the time; None: none.
        dropped: Number of refused writes.

    Args:
        path: The file.

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
        self.path, self.dropped = Path(path), 0
        self.more: Callable[[], Mapping[str, float]] | None = None
        self._columns, self.rows = ["step"], 0
        if self.path.exists():
            table = _read(self.path)
            self._columns, self.rows = table[0], len(table) - 1
            with self._refusals():
                _replace(self.path, table)  # without a last row truncated by a kill

    @property
    def name(self) -> str:
        """Return `csv`."""
        return "csv"

    @property
    def version(self) -> str:
        """Return the run folder's name."""
        return self.path.parent.name

    @property
    def log_dir(self) -> str:
        """Return the folder of the file."""
        return str(self.path.parent)

    @property
    def save_dir(self) -> str:
        """Return the folder of the file."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write nothing: hyperparameters are in the run's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        if "step" in metrics:
            raise ValueError("a metric is named 'step', the name of the first column: rename the metric")
        row = {"step": "" if step is None else str(step)}
        more = {} if self.more is None else self.more()
        row |= {name: repr(float(value)) for name, value in {**more, **metrics}.items()}
        with self._refusals():
            self._append(row)

    def _append(self, row: dict[str, str]) -> None:
        columns = [*self._columns, *(name for name in row if name not in self._columns)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if columns != self._columns or not self.path.exists():
            table = _read(self.path)[1:] if self.path.exists() else []
            _replace(self.path, [columns, *([*old, *[""] * (len(columns) - len(old))] for old in table)])
            self._columns = columns
        size = self.path.stat().st_size
        try:
            with open(self.path, "a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([row.get(name, "") for name in self._columns])
        except OSError:
            os.truncate(self.path, size)  # half a row
            raise
        self.rows += 1

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Count rows that the disk refuses, and warn of the first."""
        try:
            yield
        except OSError as error:
            self.dropped += 1
            if self.dropped == 1:
                _warn(self.path, error)

    def state_dict(self) -> dict[str, int]:
        """Return the number of rows."""
        return {"rows": self.rows}

    @rank_zero_only
    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Keep the first `rows` rows."""
        if state_dict["rows"] < self.rows:
            with self._refusals():
                _replace(self.path, _read(self.path)[: state_dict["rows"] + 1])
                self.rows = state_dict["rows"]


CURVES = {
    f"{part}/{metric}": f"{quantity}/{part}"
    for part in ("train", "val", "test")
    for metric, quantity in (("accuracy", "accuracy"), ("loss" if part == "train" else "nll", "loss"))
}
"""The tags of the curves that are looked at most: TensorBoard shows cards in the order of their tags."""


def card(name: str) -> str:
    """Return the tag of a metric in TensorBoard, so that accuracy and loss of all splits are its first cards.

    >>> card("train/loss"), card("val/nll"), card("val/accuracy"), card("val/ece"), card("final/test/nll")
    ('loss/train', 'loss/val', 'accuracy/val', 'val/ece', 'results/test/nll')
    """
    return CURVES.get(name) or re.sub("^final/", "results/", name)


class TensorBoardLog(TensorBoardLogger):
    """TensorBoardLogger for a run folder that writes hyperparameters once, at the end, with the final test metrics.

    The first cards are `accuracy/train`, `accuracy/val`, `loss/train` and `loss/val`; the latter is the `val/nll` of
    other loggers. All other tags are the names of the metrics.

    TensorBoard's HParams tab has no use for those that Lightning writes before training, which have no metrics. Events
    that the disk refuses are dropped, with one warning.

    Args:
        folder: The run's TensorBoard folder.
        purge_step: On resume, TensorBoard hides the values logged at this step or later.
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
        )
        self.dropped = 0
        self._purge_step = purge_step

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """Return the writer."""
        if self._experiment is None:
            self._experiment = EventWriter(self.log_dir, self._refused, self._purge_step)
        return self._experiment

    def _refused(self, error: OSError) -> None:
        self.dropped += 1
        if self.dropped == 1:
            _warn(Path(self.log_dir), error)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics, except the number of the epoch, which would be one of the first curves."""
        super().log_metrics({card(name): value for name, value in metrics.items() if name != "epoch"}, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write `params` together with `metrics`, except the speed, at a step of the training; without, nothing.

        The tab has a column for every setting of any run, unless `log_columns` has chosen some.
        """
        metrics = {name: value for name, value in (metrics or {}).items() if not name.startswith("final/train/")}
        if not metrics:
            return
        _, start, end = hparams(dict(params), dict.fromkeys(metrics, 0.0))
        for name, value in metrics.items():
            self.experiment.add_scalar(card(name), float(value), step)  # the first one opens the file
        for summary in (start, end):
            self.experiment.file_writer.add_summary(summary)

    @rank_zero_only
    def log_columns(
        self, settings: Mapping[str, Sequence[object]], metrics: Sequence[str], first: Sequence[str] = ()
    ) -> None:
        """Choose the columns of the HParams tab: see `columns`. Call it after `log_hyperparams`."""
        self.experiment.file_writer.add_summary(
            columns(settings, {card(f"final/{name}"): name for name in metrics}, first)
        )

    @rank_zero_only
    def save(self) -> None:
        """Flush the events; hyperparameters are in the run's config.yaml."""
        self.experiment.flush()


def _warn(path: Path, error: OSError) -> None:
    reason = error.strerror or str(error)
    rank_zero_warn(f"{path}: values were not written: {reason}; training continues: make room on the disk")


def _read(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="") as file:
            table = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and the curves start anew") from None
    # A kill during a write leaves a truncated last row.
    return [row for row in table if len(row) == len(table[0])] if table else [["step"]]


def _replace(path: Path, table: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text.getvalue())
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def read_column(path: str | Path, name: str) -> list[tuple[int, float]]:
    """Return the `(step, value)` pairs of a metric in the file of a `CSVLog`, in the order written.

    Raises:
        ValueError: If the file has no such column.
    """
    table = _read(Path(path))
    if name not in table[0]:
        raise ValueError(f"{path} has no column {name!r}: it has {', '.join(table[0])}")
    column = table[0].index(name)
    pairs = [(int(row[0]), float(row[column])) for row in table[1:] if row[column]]
    return [(step, value) for step, value in pairs if not math.isnan(value)]
