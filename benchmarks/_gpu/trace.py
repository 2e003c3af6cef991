"""Launches, copies, waits and busy time of a step on the device, counted by torch's profiler."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from .timing import synchronize

API = ("cuda_runtime", "cuda_driver")
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


class Trace:
    """A profile from `start` to `stop`.

    Once CUPTI, on which it relies, has been loaded, every launch may take longer: time everything first, then trace.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.running = False

    def start(self) -> None:
        """Begin, with an idle device."""
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self.device != "cpu" else [])
        self.profile = profile(activities=activities)
        synchronize(self.device)
        self.profile.start()
        self.running = True

    def stop(self, steps: int) -> dict[str, float]:
        """End; return the counts a step."""
        synchronize(self.device)
        self.running = False
        self.profile.stop()
        # The file's format is documented, while the names of the events' attributes change from version to version.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self.profile.export_chrome_trace(str(path))
            events = json.loads(path.read_text(errors="replace"), strict=False)["traceEvents"]
        return count(events, steps, self.device)

    def abandon(self) -> None:
        """End a profile that was not stopped: the next one could not start."""
        if self.running:
            self.running = False
            with contextlib.suppress(Exception):  # what went wrong before is the error to report
                self.profile.stop()


def traced(step: Callable[[], Any], device: str, steps: int = 5) -> dict[str, float]:
    """Return the counts a call of `step`."""
    trace = Trace(device)
    step()
    trace.start()
    try:
        for _ in range(steps):
            step()
        return trace.stop(steps)
    finally:
        trace.abandon()


def count(events: Iterable[dict[str, Any]], steps: int, device: str) -> dict[str, float]:
    """Return, a step: `.item()` calls and, on CUDA, launches, kernels, copies to and from the host, waits, busy time.

    >>> call = {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "args": {"correlation": 7}}
    >>> kernel = {"cat": "kernel", "name": "relu", "dur": 5}
    >>> copy = {"cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pageable)", "dur": 2}
    >>> counts = count([call, kernel, copy], 1, "cuda")
    >>> counts["launches"], counts["to_host"], counts["busy_ms"]
    (1.0, 1.0, 0.007)
    """
    items, launches, kernels, to_host, from_host, waits, busy = 0, set(), 0, 0, 0, 0, 0.0
    for number, event in enumerate(events):
        category, name = event.get("cat"), str(event.get("name"))
        if category == "cpu_op":
            items += name == "aten::_local_scalar_dense"
        elif category in API:
            if "Launch" in name:
                launches.add(event.get("args", {}).get("correlation", -number))
            waits += name in ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
        elif category in ON_DEVICE:
            kernels += category == "kernel"
            to_host += "DtoH" in name
            from_host += "HtoD" in name
            busy += event.get("dur", 0)
    counts = {"items": items / steps}
    if device == "cpu":
        return counts
    if not kernels:
        raise RuntimeError("the profiler saw no kernel: CUPTI does not work here")
    counts |= {"launches": len(launches) / steps, "kernels": kernels / steps, "waits": waits / steps}
    return counts | {"to_host": to_host / steps, "from_host": from_host / steps, "busy_ms": busy / 1e3 / steps}
