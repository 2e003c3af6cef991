"""The tests marked `gpu`, each a row as soon as it has ended."""

import time
from pathlib import Path
from typing import Any

import pytest

from ..rows import Bench

ROOT = Path(__file__).resolve().parents[3]
CASE = "pytest -m gpu"


class Recorder:
    """Appends a row for each test: when it starts, and its outcome when it has ended."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.began = bench, time.monotonic()
        self.started = time.monotonic()
        self.counts: dict[str, int] = {}
        self.failed: list[str] = []

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        """Append that it runs: a test that hangs is the one whose row stays so."""
        self.started = time.monotonic()
        self.bench.row(CASE, nodeid, outcome="did not end")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Append the outcome of its call, or of its set-up or end if that fails or skips it."""
        if report.when != "call" and report.outcome == "passed":
            return
        values = {"outcome": report.outcome, "seconds": round(time.monotonic() - self.started, 2)}
        if report.outcome == "failed":
            self.failed.append(report.nodeid)
            values["note"] = str(report.longrepr)[-1500:].strip().splitlines()[-1] if report.longrepr else ""
        self.bench.row(CASE, report.nodeid, **values)
        self.counts[report.outcome] = self.counts.get(report.outcome, 0) + 1
        self.total()

    def pytest_collectreport(self, report: Any) -> None:
        """Append a file that cannot be collected."""
        if report.failed:
            self.failed.append(report.nodeid)
            lines = str(report.longrepr).strip().splitlines()
            self.bench.row(CASE, report.nodeid, outcome="not collected", note=lines[-1] if lines else "")
            self.total()

    def total(self) -> None:
        """Append the counts so far."""
        outcome = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        seconds = round(time.monotonic() - self.began, 1)
        self.bench.row(CASE, "all", outcome=outcome, seconds=seconds, counts=self.counts, failed=self.failed)


def files(folder: Path) -> list[Path]:
    """Return the test files with a test marked `gpu`, without the scripts', which need packages of the experiments.

    A mark may come from a fixture of the folder's `conftest.py`.
    """
    every = sorted(path for path in folder.rglob("test_*.py") if folder / "scripts" not in path.parents)
    return [path for path in every if any(map(marks, (path, path.with_name("conftest.py"))))]


def marks(path: Path) -> bool:
    """Return whether a file is there and marks something `gpu`."""
    return path.is_file() and "mark.gpu" in path.read_text(encoding="utf-8")


def run(bench: Bench, folder: Path = ROOT / "tests") -> None:
    """Run them; a file without such a test is not even imported."""
    chosen = files(folder)[:1] if bench.quick else files(folder)
    words = [*map(str, chosen), "-m", "gpu", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    # Without pyproject's options, for several processes: they would share the card, and xdist may not be installed.
    words += ["-o", "addopts=--import-mode=importlib", "-c", str(ROOT / "pyproject.toml")]
    words += ["--continue-on-collection-errors", "-o", "faulthandler_timeout=60"]
    recorder = Recorder(bench)
    recorder.total()
    pytest.main(words, plugins=[recorder])
    recorder.total()
