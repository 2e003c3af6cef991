"""Batches that measure the loop which asks for them: the time of windows of steps, or a profile of some."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .data import Batch
from .timing import spread, synchronize
from .trace import Trace


@dataclass(frozen=True)
class Plan:
    """Which steps are measured."""

    warm_up: int = 20
    window: int = 10  # steps of a window
    windows: int = 8
    seconds: float = 6.0  # no further window begins so long after the first
    traced: int = 10  # steps of a profile


QUICK = Plan(warm_up=2, window=2, windows=2, traced=2)


@dataclass(eq=False)
class Clocked:
    """A loader of one epoch that times the steps between its batches, or traces them.

    The device is waited for at the bounds of a window only, so what a loop queues is not disturbed within.
    """

    batches: Iterator[Batch]
    device: str
    plan: Plan
    traces: bool = False
    milliseconds: list[float] = field(default_factory=list)  # of each window
    counts: dict[str, float] | None = None
    first_seconds: float = float("nan")

    def __len__(self) -> int:
        plan = self.plan
        return plan.warm_up + (plan.traced if self.traces else plan.window * plan.windows) + 1

    def __iter__(self) -> Iterator[Batch]:
        began = time.perf_counter()
        for step in range(self.plan.warm_up):
            if step == 1:
                synchronize(self.device)
                self.first_seconds = time.perf_counter() - began
            yield next(self.batches)
        yield from self._traced() if self.traces else self._timed()

    def _timed(self) -> Iterator[Batch]:
        began = time.perf_counter()
        for _ in range(self.plan.windows):
            synchronize(self.device)
            start = time.perf_counter()
            for _ in range(self.plan.window):
                yield next(self.batches)
            synchronize(self.device)
            self.milliseconds.append(1e3 * (time.perf_counter() - start) / self.plan.window)
            if time.perf_counter() - began > self.plan.seconds:
                return
        yield next(self.batches)

    def _traced(self) -> Iterator[Batch]:
        trace = Trace(self.device)
        trace.start()
        try:
            for _ in range(self.plan.traced):
                yield next(self.batches)
            self.counts = trace.stop(self.plan.traced)
        finally:  # the loop may have failed
            trace.abandon()
        yield next(self.batches)

    def row(self, batch: int) -> dict[str, Any]:
        """Return what was measured."""
        if self.traces:
            if self.counts is None:
                raise RuntimeError("the loop ended before the traced steps")
            return dict(self.counts)
        if not self.milliseconds:
            raise RuntimeError("the loop ended before the timed steps")
        middle = spread(self.milliseconds)
        mean = sum(self.milliseconds) / len(self.milliseconds)
        rate = 1e3 * batch / middle["median"]
        return {"ms": middle, "mean_ms": mean, "rate": rate, "first_seconds": self.first_seconds}
