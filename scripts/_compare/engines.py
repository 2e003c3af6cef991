"""Who makes the runs of a comparison: processes of this machine (ray.py: a Ray cluster)."""

import multiprocessing
import multiprocessing.forkserver
import os
import queue
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace

import torch

from _compare.runs import Task, execute, outcome, write_failure

Process = multiprocessing.context.ForkServerProcess


class Engine:
    """Makes runs, each in a fresh process, so that none finds what another has left."""

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Generator[Task]:
        """Make every run, and yield each when it has ended.

        Args:
            tasks: In the order in which they start.
            started: Called with each when it starts.
        """
        raise NotImplementedError


def in_fresh_process(task: Task, running: Callable[[Process], None] = lambda process: None) -> str | None:
    """Make a run in a fork of a server that has imported everything once: as fresh as a new process, and faster.

    Returns:
        How the process ended, where it has left no outcome.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["compare"])
    with _environment(task.threads):
        multiprocessing.forkserver.ensure_running()
    process = context.Process(target=execute, args=(task,))
    process.start()
    running(process)
    process.join()
    return None if outcome(task.folder) else _ending(process.exitcode or 0)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What the server of processes finds: the modules, and the number of threads before any is started."""
    changed = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(threads)}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _ending(code: int) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}: out of memory?"
    return f"its process ended with code {code}: see log.txt"


class Processes(Engine):
    """Up to ``jobs`` runs at a time on this machine, taking turns on its GPUs.

    Args:
        jobs: At least 1.
    """

    def __init__(self, jobs: int = 1) -> None:
        if jobs < 1:
            raise ValueError(f"--jobs must be at least 1, found {jobs}")
        self.jobs = jobs

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Generator[Task]:
        """Make every run, and yield each when it has ended."""
        slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.jobs):
            slots.put(slot)
        processes: list[Process] = []
        gpus = visible_gpus()
        stopped = False

        def running(process: Process) -> None:
            processes.append(process)
            if stopped:
                process.terminate()

        def make(task: Task) -> Task:
            slot = slots.get()
            try:
                if not stopped:
                    started(task)
                    placed = replace(task, gpu=gpus[slot % len(gpus)]) if len(gpus) > 1 else task
                    ending = in_fresh_process(placed, running)
                    if ending is not None and not stopped:
                        write_failure(task, ending)
            finally:
                slots.put(slot)
            return task

        pool = ThreadPoolExecutor(self.jobs)
        futures = [pool.submit(make, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stopped = True
            alive = [process for process in list(processes) if process.is_alive()]
            for process in alive:
                process.terminate()  # it finishes its step, saves and ends
            for process in alive:
                process.join(60)
                process.kill()
            pool.shutdown(cancel_futures=True)


def visible_gpus() -> list[str]:
    """The GPUs of this machine by the names that CUDA_VISIBLE_DEVICES takes."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [name.strip() for name in named.split(",")][:count] if named else [str(i) for i in range(count)]
