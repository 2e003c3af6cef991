"""How the tests are started: several processes, of one thread each, without the slow tests."""

import gc
import os
from typing import Any

import pytest

# Before torch is imported, here and in the processes that are started: they share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
LEFT_OUT = pytest.StashKey[int]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return 0 processes for one file or test, which need no second, and for the tests that would share a card."""
    files = [str(argument).partition("::")[0] for argument in config.args]
    alone = len(files) == 1 and (config.invocation_params.dir / files[0]).is_file()
    return 0 if alone or config.option.markexpr == "gpu" else None


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the slow tests that are left out."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.config.stash[LEFT_OUT] = item.config.stash.get(LEFT_OUT, 0) + 1


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through everything that was imported, again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the count to the process that prints, which has collected nothing."""
    gc.unfreeze()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive the count, which is the same from every process."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print how many were left out, and the command that runs them."""
    count = config.stash.get(LEFT_OUT, 0)
    if count and config.option.markexpr == "not slow":
        terminalreporter.write_line(f"{count} slow tests were left out; run them with: pytest -m slow")
