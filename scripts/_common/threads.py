"""How many threads torch computes with on a CPU."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from _common.errors import warn

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Return the CPUs that this process may use: those of its affinity, or fewer by the quota of its control group."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in (("cpu.max", ""), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # no such file, or "max"
            words = (cgroup / quota).read_text().split()
            words += (cgroup / period).read_text().split() if period else []
            if int(words[0]) > 0:
                cpus = min(cpus, max(1, -(-int(words[0]) // int(words[1]))))
    return cpus


def set_threads(wanted: int | None) -> None:
    """Compute with the wanted number of threads.

    Without one it is torch's own number, which `OMP_NUM_THREADS` sets, otherwise at most one a CPU that is available.
    It does not depend on the load, since results differ in their last bits with the number of threads.
    """
    if wanted is not None:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > available_cpus():
        torch.set_num_threads(available_cpus())


def warn_if_busy() -> None:
    """Warn if several threads share the CPUs with other programs, and then wait for one another."""
    cpus, threads = available_cpus(), torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads > 1 and load > cpus / 2:
        warn(
            f"the machine is busy (load {load:.1f} on {cpus} CPUs): {threads} threads may be many times slower than "
            "one: add --threads 1"
        )
