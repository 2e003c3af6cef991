"""Wall time, host time and device time of a function, interleaved with others."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from .rows import Bench

Step = Callable[[], Any]


class Sample(NamedTuple):
    """Milliseconds of one call."""

    wall: float  # until the device has finished
    host: float  # until the call returns
    device: float  # between two events around it in the stream; on a CPU the wall time


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def sample(step: Step, device: str) -> Sample:
    """Time one call."""
    synchronize(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device != "cpu" else []
    began = time.perf_counter()
    for event in events[:1]:
        event.record()
    step()
    host = time.perf_counter() - began
    for event in events[1:]:
        event.record()
    synchronize(device)
    wall = time.perf_counter() - began
    return Sample(1e3 * wall, 1e3 * host, events[0].elapsed_time(events[1]) if events else 1e3 * wall)


def replayed(step: Step, device: str, replays: int = 20, warm_up: int = 3) -> Callable[[], float]:
    """Return a function that gives the milliseconds of device time of `step` without its launches.

    On CUDA the step is captured, and the replays are queued behind one that is not timed; on a CPU it is called.
    """
    if device == "cpu":
        step()
        return lambda: sample(step, device).wall
    graph = captured(step, warm_up)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def run() -> float:
        graph.replay()
        start.record()
        for _ in range(replays):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / replays

    return run


def captured(step: Step, warm_up: int = 3) -> torch.cuda.CUDAGraph:
    """Capture a step, after warming up on the stream that captures: autograd's nodes stay bound to their stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as those that pin memory, may use the device meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        step()
    torch.cuda.synchronize()
    return graph


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles.

    >>> spread([1.0, 2.0, 3.0])
    {'median': 2.0, 'low': 1.25, 'high': 2.75, 'count': 3}
    """
    # Twice, as one value has no quartiles.
    low, median, high = statistics.quantiles([*values, *values], n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "count": len(values)}


def interleaved(
    bench: Bench, case: str, contenders: dict[str, Callable[[], Sample]], rounds: int, base: str, seconds: float
) -> None:
    """Time all contenders in each round, and append a row each: spreads, and ratios to `base` in the same round.

    One that fails is left out of the following rounds. Rows are appended from time to time too.

    Args:
        bench: Where the rows go.
        case: Their case.
        contenders: Functions that time one call.
        rounds: Number of rounds, after three that are not counted.
        base: The contender whose ratio is 1.
        seconds: Start no further round after so long.
    """
    running = dict(contenders)
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    began = time.monotonic()
    for done in range(-3, rounds):
        for name, run in list(running.items()):
            try:
                taken = run()
            except Exception as error:
                bench.failed(case, name, error)
                del running[name], samples[name]
                continue
            if done >= 0:
                samples[name].append(taken)
        over = time.monotonic() - began > seconds or bench.left() < 5
        if done >= 0 and (over or done + 1 == rounds or done % 10 == 4):
            _append(bench, case, samples, base)
        if over and done >= 0:
            return


def _append(bench: Bench, case: str, samples: dict[str, list[Sample]], base: str) -> None:
    for name, own in samples.items():
        values = {field: spread([getattr(one, field) for one in own]) for field in Sample._fields}
        if base in samples:
            for field in ("wall", "device"):
                pairs = zip(own, samples[base], strict=True)
                values[f"{field}_ratio"] = spread([getattr(a, field) / getattr(b, field) for a, b in pairs])
        bench.row(case, name, **values)
