"""One run of a comparison: train.py in a process of its own, resumed after a kill, and its outcome."""

import json
import math
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

import train
from _common.errors import one_line
from _common.run import find_last, write_json
from _common.trust import trusting
from _compare.folder import only_one_comparison

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Task:
    """A run to make."""

    name: str  # of its combination
    seed: int
    folder: Path  # of the run's folder, the log and the outcome
    words: tuple[str, ...]  # command line of train.py without fit, seed and folder
    threads: int  # PyTorch's; fixed, because a sum's order of additions depends on their number
    start: Path  # working directory, to which relative paths in the words refer
    shown: tuple[str, ...]  # settings that TensorBoard's HParams tab shows
    gpu: str | None = None  # value of CUDA_VISIBLE_DEVICES; None leaves it unchanged
    trial: int | None = None  # its number, of a run that only tunes

    @property
    def title(self) -> str:
        """The run's name in one line."""
        return f"{self.name}, " + (f"seed {self.seed}" if self.trial is None else f"trial {self.trial}")


def outcome(folder: Path) -> dict[str, Any] | None:
    """Return a run's `status` (finished or failed) and its `metrics` or `error`; None while it has not ended."""
    path = folder / OUTCOME
    if not path.is_file():
        return None
    ended: dict[str, Any] = json.loads(path.read_text())
    if "metrics" in ended:  # null is how JSON writes a number that is not finite
        ended["metrics"] = {name: math.nan if value is None else value for name, value in ended["metrics"].items()}
    return ended


def execute(task: Task) -> None:
    """Train and write the outcome; this is the body of the run's own process."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the comparison ends its runs
    os.chdir(task.start)
    task.folder.mkdir(parents=True, exist_ok=True)
    with open(task.folder / "log.txt", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if task.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = task.gpu
    torch.set_num_threads(task.threads)
    with only_one_comparison(task.folder, wait=True):  # a process of a killed comparison may still be ending
        if outcome(task.folder) is None:  # or may have finished the run
            _train(task)
    sys.stdout.flush()


def _end_with_parent() -> None:
    """End this process as soon as the one that started it ends, even by a kill."""

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _train(task: Task) -> None:
    words = _words(task)
    try:
        cli = train.main(words, task.shown)
    except SystemExit as stopped:
        if stopped.code in (130, 143):  # stopped by a signal: neither finished nor failed
            raise
        write_failure(task, one_line(stopped.__cause__) if stopped.__cause__ else f"train.py ended with {stopped.code}")
    except Exception as error:
        traceback.print_exc()
        write_failure(task, f"{type(error).__name__}: {one_line(error)}")
    else:
        metrics = json.loads((cli.run.folder / "results.json").read_text())
        device = cli.trainer.strategy.root_device
        write_json(
            task.folder / OUTCOME,
            {
                "status": "finished",
                "metrics": metrics,
                "run": cli.run.folder.name,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            },
        )


def _words(task: Task) -> list[str]:
    """The command line that resumes the run from its last checkpoint, or starts it."""
    try:
        checkpoint = find_last(task.folder)
        return ["fit", "--ckpt_path", str(checkpoint), *trusting(checkpoint.parents[1])]
    except FileNotFoundError:
        for left in task.folder.glob("*/"):  # a run was killed before its first checkpoint
            shutil.rmtree(left)
    place = ["--seed_everything", str(task.seed), "--trainer.default_root_dir", str(task.folder)]
    return ["fit", *task.words, *place]


def write_failure(task: Task, error: str) -> None:
    """Write that a run failed, without its folder's name, which holds the time."""
    line = re.sub(re.escape(str(task.folder)) + r"/[^/\s]+", "RUN", error)
    write_json(task.folder / OUTCOME, {"status": "failed", "error": line})
