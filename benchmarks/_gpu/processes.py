"""Run a process until its time is over, then end it and all that it has started."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

POLL = 0.25


def run_capped(words: Sequence[str], seconds: float, log: Path, poll: Callable[[], None]) -> str:
    """Run a command; return how it ended: "finished", "killed after N s" or "exit code N".

    Args:
        words: The command.
        seconds: When it is killed (SIGKILL), with its process group and all its descendants.
        log: File for what it prints. Not a pipe, which a surviving child would hold open.
        poll: Called some times a second, and once after the end.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "MPLBACKEND": "Agg"}
    environment["TEARDOWN_CUPTI"] = "0"  # whose second start, after graphs were captured, can crash
    ended = "finished"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env=environment,
        )  # fmt: skip
        deadline = time.monotonic() + seconds
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    ended = f"killed after {seconds:.0f} s"
                    break
                time.sleep(POLL)
                poll()
        finally:
            kill_tree(process.pid)
            process.wait()
    poll()
    return ended if ended != "finished" or process.returncode == 0 else f"exit code {process.returncode}"


def kill_tree(pid: int) -> None:
    """Kill a process group and the descendants of its leader, some of which may have left the group."""
    others = [number for child in descendants(pid) for number in (child,)]
    for kill, number in ((os.killpg, pid), *((os.kill, other) for other in others)):
        try:
            kill(number, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` has started, and those that they have (Linux; elsewhere none)."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold blanks.
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it has ended
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found
