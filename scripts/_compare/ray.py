"""The executor of a comparison's runs on a Ray cluster, with the same results as on one machine."""

import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from _compare.runs import Task, outcome, write_failure

WAIT = 5.0
"""Seconds to wait for an address."""
TRIES = "RAY_NUM_REDIS_GET_RETRIES"
"""Environment variable of the number of times that Ray tries to reach a cluster; it is read on import."""
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS
"""How a client of HTTP/2, on which gRPC stands, begins; the server answers by its own settings."""


class Ray:
    """Makes as many runs at a time as an existing Ray cluster has room for.

    Every machine must see the repository, the data and the output under the same paths as this one. Each run has
    `threads` CPUs and `gpus` GPUs, or a share of one.
    """

    def __init__(self, address: str | None = None, threads: int = 1, gpus: float = 0.0) -> None:
        os.environ.setdefault(TRIES, "3")  # instead of 20, a second each
        try:
            import ray
        except ImportError as error:
            raise ValueError('--engine ray needs the package ray: pip install -e ".[ray]"') from error
        self.ray, self.threads, self.gpus = ray, threads, gpus
        if ray.is_initialized():
            return
        address = address or os.environ.get("RAY_ADDRESS")
        check_answers(announced() if address in (None, "auto") else address)
        try:
            with errors_aside():
                ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"no Ray cluster at {address or 'the default address'} ({str(error).strip().splitlines()[0]}): "
                "start one with 'ray start --head', or name it by --ray_address"
            ) from error

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Generator[Task]:
        """Make the runs as `Processes.run` does."""
        path = [os.path.abspath(place) for place in sys.path]
        environment = {name: os.environ[name] for name in ("DATA_DIR",) if name in os.environ}

        # A nested function is pickled by value: a worker can import our modules only once it has the path.
        def make(words: dict[str, Any]) -> None:
            sys.path[:0] = [place for place in path if place not in sys.path]
            os.environ.update(environment)
            from _compare import engines as ours

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


def announced() -> str | None:
    """Return the address that the last `ray start` of this machine has left in Ray's temporary folder."""
    path = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    return path.read_text().strip() if path.is_file() else None


def check_answers(address: str | None) -> None:
    """Check within seconds that `[ray://]HOST:PORT` answers as Ray does, by gRPC; Ray itself tries for a minute."""
    if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or ""):
        try:
            with socket.create_connection((match[1], int(match[2])), timeout=WAIT) as connection:
                connection.sendall(GREETING)
                answer = connection.recv(9)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"no Ray cluster at {address}: {reason}") from error
        if answer[3:4] != SETTINGS[3:4]:
            raise ValueError(f"no Ray cluster at {address}: something else answers there")


@contextmanager
def errors_aside() -> Iterator[None]:
    """Discard what Ray's own threads write to the error output while it connects; its exception has the reason."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
