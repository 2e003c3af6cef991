"""The local executor of a comparison's runs; that for a Ray cluster is in ray.py."""

import multiprocessing
import multiprocessing.forkserver
import os
import queue
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from unittest import mock

import torch

from _compare.runs import Task, execute, outcome, write_failure

Process = multiprocessing.context.ForkServerProcess


def in_fresh_process(task: Task, running: Callable[[Process], None] = lambda process: None) -> str | None:
    """Make a run in a fork of a server that has imported everything once: as fresh as a new process, and faster.

    Return how the process ended if it wrote no outcome, otherwise None.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["compare"])
    path = os.pathsep.join(filter(None, sys.path))
    with mock.patch.dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS=str(task.threads)):  # the server's
        multiprocessing.forkserver.ensure_running()
    process = context.Process(target=execute, args=(task,))
    process.start()
    running(process)
    process.join()
    if outcome(task.folder):
        return None
    if process.exitcode is not None and process.exitcode < 0:
        return f"its process was ended by {signal.Signals(-process.exitcode).name}: out of memory?"
    return f"its process ended with code {process.exitcode}: see log.txt"


class Processes:
    """Makes up to `jobs` runs at a time on this machine, distributed over its GPUs."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Generator[Task]:
        """Make the runs in this order, each in a fresh process, so that none depends on another.

        `started` is called with each run when it starts, and each is yielded when it has ended.
        """
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
    """Return this machine's GPUs by the names that CUDA_VISIBLE_DEVICES takes."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [name.strip() for name in named.split(",")][:count] if named else [str(i) for i in range(count)]
