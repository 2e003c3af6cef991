"""The command line of `gpu.py`: run the parts one after the other, each with a time cap, and keep what they measure."""

import argparse
import contextlib
import faulthandler
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from .checkout import commit, slug
from .processes import run_capped
from .report import tables
from .rows import Bench, read

ROOT = Path(__file__).resolve().parents[2]
CAPS = {"input": 50, "step": 190, "optimizers": 80, "activations": 90, "kmeans": 60, "compiled": 110, "tests": 180}
"""Seconds after which each part is killed, in the order in which they run."""
ON_REQUEST = {"record": 420, "experiments": 360}
"""Parts that run only if they are named, and write results of their own."""
ENVIRONMENT_CAP = 120
LOG = 6000
"""Characters of what a part printed that are kept if something failed."""


def main(words: list[str] | None = None) -> int:
    """Run the command line `words` (the process's own by default); return the exit status."""
    options = parse(words)
    if options.part is not None:
        return run_part(options)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack the tables' lines
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the part is ended too
    began = time.monotonic()
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    results = Results(output, options)
    left = lambda: 60 * options.minutes - (time.monotonic() - began)  # noqa: E731
    results.run("environment", min(ENVIRONMENT_CAP, left()))
    if results.parts["environment"]["ended"].startswith("exit") and results.environment["device"] == "unknown":
        results.path.unlink(missing_ok=True)  # which says nothing
        return 1  # no such device, or no torch
    images = results.environment.get("images", {})
    if options.data and (images.get("shape") != [3, 32, 32] or images.get("classes", 11) > 10):
        print(f"{options.data}: no images of 3 x 32 x 32 in at most ten classes: random ones are used", flush=True)
        options.data = None
    for part, own_cap in (CAPS | ON_REQUEST).items():
        if part in options.only:
            cap = min(options.cap or own_cap, left())
            if cap < 10:
                print(f"{part}: no time left", flush=True)
            else:
                results.run(part, cap)
    print(f"{results.path} after {time.monotonic() - began:.0f} s")
    return 0


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.py", description=sys.modules["__main__"].__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=list(CAPS | ON_REQUEST), default=list(CAPS), help="Parts to run.")
    parser.add_argument("--minutes", type=float, default=8.0, help="When the last part is killed.")
    parser.add_argument("--cap", type=float, help="Seconds for each part, in place of its own cap.")
    parser.add_argument("--output", default=str(ROOT / "results"), help="Folder of the results.")
    parser.add_argument("--data", default=os.environ.get("CIFAR"), help="Folder of images (environment: CIFAR).")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="What is measured.")
    parser.add_argument("--quick", action="store_true", help="Tiny sizes and few rounds: whether it runs.")
    parser.add_argument("--commit", help="What is measured, where there is no git.")
    for name in ("--part", "--rows", "--seconds"):  # of the process of one part
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def run_part(options: argparse.Namespace) -> int:
    """Measure one part in this process."""
    faulthandler.enable()
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    data = Path(options.data) if options.data else None
    bench = Bench(Path(options.rows), options.device, options.quick, data, float(options.seconds))
    # Where it hangs, if it does, in the log.
    faulthandler.dump_traceback_later(max(0.97 * bench.seconds - 1, 1))
    name = ".environment" if options.part == "environment" else f".parts.{options.part}"
    importlib.import_module(name, __package__).run(bench)
    return 0


def end_with(parent: int) -> None:
    """End this process when the one that started it has ended, even if that was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Results:
    """The results file, rewritten whenever a part has appended rows."""

    def __init__(self, output: Path, options: argparse.Namespace) -> None:
        self.output, self.options = output, options
        self.environment: dict[str, Any] = {"device": "unknown", "commit": options.commit or commit(ROOT)}
        self.parts: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        """Return the file of the last part."""
        return self.path_of(next(reversed(self.parts), "environment"))

    def path_of(self, part: str) -> Path:
        """Return the file of a part, named after the device: whole trainings have one of their own."""
        only = set(getattr(self.options, "only", ()))
        of_trainings = part in ON_REQUEST or (part == "environment" and bool(only) and only <= set(ON_REQUEST))
        return self.output / f"{'cifar10' if of_trainings else 'gpu'}-{slug(self.environment['device'])}.json"

    def run(self, part: str, cap: float) -> None:
        """Run a part in a process of its own, and print its tables."""
        began, sizes = time.monotonic(), [0]
        with tempfile.TemporaryDirectory() as folder:
            rows, log = Path(folder, "rows.jsonl"), Path(folder, "log.txt")
            rows.touch()

            def poll() -> None:
                if rows.stat().st_size != sizes[-1]:
                    sizes.append(rows.stat().st_size)
                    self.take(part, {"rows": read(rows.read_text().splitlines(keepends=True))})

            ended = run_capped(self.words(part, rows, cap), cap, log, poll)
            printed = log.read_text(errors="replace")
        self.take(part, {"ended": ended, "seconds": round(time.monotonic() - began, 1), "cap": round(cap)})
        failed = ended != "finished" or any("error" in row for row in self.parts[part]["rows"])
        if failed:
            self.take(part, {"log": printed[-LOG:]})
        try:
            Console(width=150).print(*tables(part, self.parts[part]), sep="\n")
        except Exception as error:  # what is written to the file, and the next parts, matter more
            print(f"{part}: its table cannot be printed: {error}", flush=True)
        print(f"{part}: {ended}, {self.parts[part]['seconds']} s", flush=True)
        if ended != "finished":
            print(printed[-1500:], flush=True)

    def take(self, part: str, values: dict[str, Any]) -> None:
        """Add what is known of a part, and write the file."""
        own = self.parts.setdefault(part, {"rows": []})
        own.update(values)
        if part == "environment":
            for row in own["rows"]:
                values = {name: value for name, value in row.items() if name not in ("case", "name")}
                self.environment |= values if row["name"] == "environment" else {row["name"]: values}
        else:  # parts of one file may come from different runs
            own["environment"] = self.environment
        content: dict[str, Any] = {"device": self.environment["device"], "parts": {}}
        path = self.path_of(part)
        with contextlib.suppress(OSError, ValueError, KeyError):  # none yet, or a broken one
            content["parts"] = dict(json.loads(path.read_text())["parts"])
        content["parts"] |= {name: own for name, own in self.parts.items() if self.path_of(name) == path}
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(partial, path)

    def words(self, part: str, rows: Path, cap: float) -> list[str]:
        """Return the command of a part's process."""
        options = self.options
        words = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--part", part, "--rows", str(rows)]
        words += ["--seconds", f"{cap:.0f}", "--device", options.device]
        words += ["--quick"] if options.quick else []
        return words + (["--data", str(options.data)] if options.data else [])
