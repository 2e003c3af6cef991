"""Training progress: one plain line per epoch, and below them a live bar in a terminal."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor


class TrainingProgress(ProgressBar):
    """Prints a line with the metrics of each epoch; in a terminal a bar shows the batches, the time and the loss.

    Lightning's own bars do their work on every batch; this one draws `refresh_per_second` times and only reads the
    clock otherwise. A line has the metrics of its own epoch only: those of a validation that it has not had are left
    out.

    Args:
        refresh_per_second: Redraws per second.
        console: Output; standard output by default.

    Raises:
        ValueError: If `refresh_per_second` is not positive.

    >>> TrainingProgress(refresh_per_second=2).is_enabled
    True
    """

    def __init__(self, refresh_per_second: float = 2.0, console: Console | None = None) -> None:
        super().__init__()
        if not refresh_per_second > 0:
            raise ValueError(f"refresh_per_second must be positive, found {refresh_per_second}")
        self.refresh_per_second = refresh_per_second
        self.console = console or Console()
        self._bar: Progress | None = None
        self._task: Any = None
        self._next_draw = 0.0
        self._epoch_open = False
        self._before: dict[str, Any] = {}  # the metrics when the epoch began
        self._enabled = True

    @property
    def is_enabled(self) -> bool:
        """Return whether progress is shown."""
        return self._enabled

    def enable(self) -> None:
        """Show progress; Lightning calls this on rank 0."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this on the other ranks."""
        self._enabled = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        if self._enabled and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn())
            # The metrics get the remaining width, so that a narrow terminal shortens them and not the bar.
            metrics = TextColumn("{task.fields[metrics]}", markup=False, table_column=Column(ratio=1, no_wrap=True))
            times = (TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, *times, metrics, console=self.console, auto_refresh=False, expand=True)
            self._bar.start()
            self._task = self._bar.add_task("", metrics="")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch that has just ended, and reset the bar."""
        self._close_epoch(trainer)
        self._before = dict(trainer.callback_metrics)
        if self._bar is not None:
            total = None if trainer.num_training_batches == float("inf") else int(trainer.num_training_batches)
            self._bar.reset(self._task, total=total, description=_epoch(trainer, trainer.current_epoch))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraw if the interval is over."""
        self._epoch_open = True
        if self._bar is None or time.monotonic() < self._next_draw:
            return
        self._next_draw = time.monotonic() + 1 / self.refresh_per_second
        description = _epoch(trainer, trainer.current_epoch)
        shown = {**_loss(outputs, trainer.accumulate_grad_batches), **trainer.progress_bar_metrics}
        self._bar.update(
            self._task, completed=batch_idx + 1, description=description, metrics=_summary(shown), refresh=True
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the last epoch, and close the bar."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        self._close_epoch(trainer)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, refresh=True)
        self._close_bar()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, which restores the terminal."""
        self._close_bar()

    def _close_epoch(self, trainer: pl.Trainer) -> None:
        if not self._epoch_open:
            return
        self._epoch_open = False
        if self._enabled:
            metrics = trainer.callback_metrics
            fresh = {name: value for name, value in metrics.items() if self._before.get(name) is not value}
            line = f"{_epoch(trainer, trainer.current_epoch - 1)}  step {trainer.global_step}  {_summary(fresh)}"
            with suppress(OSError):  # a file on a full disk
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _epoch(trainer: pl.Trainer, epoch: int) -> str:
    most = trainer.max_epochs
    return f"epoch {epoch + 1}" + (f"/{most}" if most is not None and most > 0 else "")


def _loss(outputs: Any, accumulated: int) -> dict[str, Any]:
    """Return the loss of a batch, which Lightning has divided by the number of batches of a step."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
    return {} if loss is None else {"loss": loss * accumulated}


def _summary(metrics: Mapping[str, Any]) -> str:
    scalars = {name: value for name, value in metrics.items() if not isinstance(value, Tensor) or value.numel() == 1}
    return "  ".join(f"{name} {float(value):.4g}" for name, value in scalars.items())
