"""Who makes the runs of a comparison: processes of this machine, or a Ray cluster. The numbers are the same."""

import logging
import multiprocessing
import multiprocessing.forkserver
import os
import queue
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comparison_runs import Task, execute, outcome, write_failure

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


class Ray(Engine):
    """As many runs at a time as an existing Ray cluster has room for.

    Every machine must see the repository, the data and the output under the paths that they have here.

    Args:
        address: Of the cluster; None is the one that this process or the environment is connected to.
        threads: CPUs that a run asks for.
        gpus: GPUs, or the share of one, that a run asks for.

    Raises:
        ValueError: If ray is not installed, or no cluster is there.
    """

    def __init__(self, address: str | None = None, threads: int = 1, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise ValueError('--engine ray needs the package ray: pip install -e ".[ray]"') from error
        self.ray, self.threads, self.gpus = ray, threads, gpus
        if not ray.is_initialized():
            try:
                ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise ValueError(
                    f"no Ray cluster at {address or 'the default address'} ({reason}): "
                    "start one by 'ray start --head', or name it by --ray_address"
                ) from error

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Generator[Task]:
        """Make every run, and yield each when it has ended."""
        path = [os.path.abspath(place) for place in sys.path]
        environment = {name: os.environ[name] for name in ("DATA_DIR",) if name in os.environ}

        # Defined here, it travels whole: a worker can import nothing of ours before it has the path.
        def make(words: dict[str, Any]) -> None:
            sys.path[:0] = [place for place in path if place not in sys.path]
            os.environ.update(environment)
            import comparison_engines as ours

            task = ours.Task(**words | {name: Path(words[name]) for name in ("folder", "start")})
            ending = ours.in_fresh_process(task)
            if ending is not None:
                ours.write_failure(task, ending)

        remote = self.ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(make)
        waiting = {}
        for task in tasks:
            words = vars(task) | {"folder": str(task.folder), "start": str(task.start)}
            waiting[remote.remote(words)] = task
        try:
            while waiting:
                (done,), _ = self.ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(done)
                try:
                    self.ray.get(done)
                except self.ray.exceptions.RayError as error:
                    if outcome(task.folder) is None:
                        write_failure(task, f"ray: {str(error).strip().splitlines()[-1]}")
                yield task
        finally:
            for reference in waiting:
                with suppress(self.ray.exceptions.RayError):
                    self.ray.cancel(reference, force=True)
