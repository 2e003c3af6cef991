"""How fast a training runs: examples a second, the wait for data, a GPU's memory."""

import time
from typing import Any

import torch
from pytorch_lightning import Trainer

from ..training_loop import seconds_waiting

_SAVED = ("window_batches", "window_examples", "window_seconds", "batches", "examples", "seconds", "waiting")


class Speed:
    """A clock that runs while batches are trained, over a window of steps and over the whole training.

    >>> speed = Speed()
    >>> speed.totals
    {}
    """

    def __init__(self) -> None:
        self.window_batches = self.window_examples = self.batches = self.examples = 0
        self.window_seconds = self.seconds = self.waiting = 0.0
        self._started: float | None = None
        self._waited = 0.0  # of the loop's total, what earlier windows had
        self._measures_waiting = False
        self._peak: float | None = None

    def start(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock."""
        self.window_seconds += self._running()
        self._started = None

    def add(self, examples: int) -> None:
        """Count a batch."""
        self.window_batches += 1
        self.window_examples += examples

    def close_window(self, trainer: Trainer) -> dict[str, float]:
        """Return what is logged of the window, and begin the next one; the clock has stopped."""
        batches, examples, seconds = self.window_batches, self.window_examples * trainer.world_size, self.window_seconds
        self.window_batches, self.window_examples, self.window_seconds = 0, 0, 0.0
        self.batches += batches
        self.examples += examples
        self.seconds += seconds
        waited = seconds_waiting(trainer)
        if waited is not None:
            waited, self._waited = waited - self._waited, waited
            self.waiting += waited
        self._measures_waiting = waited is not None
        device = trainer.strategy.root_device
        self._peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
        return self._figures(batches, examples, seconds, waited or 0.0)

    @property
    def elapsed(self) -> float:
        """Return the seconds of training so far, without validation, including the time before a resume."""
        return self.seconds + self.window_seconds + self._running()

    @property
    def totals(self) -> dict[str, float]:
        """Return the figures of the whole training, including the time before a resume."""
        return self._figures(self.batches, self.examples, self.seconds, self.waiting)

    def _figures(self, batches: int, examples: int, seconds: float, waited: float) -> dict[str, float]:
        if not batches or seconds <= 0:
            return {}
        figures = {"train/examples_per_second": examples / seconds}
        if self._measures_waiting:
            figures["train/data_seconds_per_batch"] = waited / batches
        return figures if self._peak is None else {**figures, "train/peak_memory_mib": self._peak}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far."""
        return {
            **{name: getattr(self, name) for name in _SAVED},
            "window_seconds": self.window_seconds + self._running(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from counts; a checkpoint of an earlier version has no waiting times."""
        for name in _SAVED:
            setattr(self, name, state_dict.get(name, 0))

    def _running(self) -> float:
        return 0.0 if self._started is None else time.perf_counter() - self._started
