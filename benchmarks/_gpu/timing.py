"""Wall time, host time and device time of a function, in turn with another."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from .rows import Row

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


def against(base: Callable[[], Sample], own: Callable[[], Sample], rounds: int, seconds: float) -> Row:
    """Time two functions in turn; return the spreads of the second's times, and of their ratios to the first's.

    Args:
        base: Times the call whose ratio is 1.
        own: Times the other; it may be the same.
        rounds: Number of times, after three that are not counted.
        seconds: Begin no further round after so long.
    """
    began = time.monotonic()
    pairs: list[tuple[Sample, Sample]] = []
    for done in range(-3, rounds):
        one = base(), own()
        if done >= 0:
            pairs.append(one)
            if time.monotonic() - began > seconds:
                break
    row: Row = {name: spread([getattr(mine, name) for _, mine in pairs]) for name in Sample._fields}
    for name in ("wall", "device"):
        row[f"{name}_ratio"] = spread([getattr(mine, name) / getattr(its, name) for its, mine in pairs])
    return row
