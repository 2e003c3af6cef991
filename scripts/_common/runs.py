"""Run folders: ``runs/<time>/`` with config.yaml, checkpoints/, tensorboard/, metrics.csv and results.json."""

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

from _common.command_line import warn
from lightning_modules.runs.checkpoint_io import read_checkpoint


def new_run(root: str | Path) -> Path:
    """A folder under ``root`` that no run has, named by the time; it is not made yet."""
    name = time.strftime("%Y%m%d-%H%M%S")
    candidates = (Path(root) / (f"{name}-{number}" if number else name) for number in range(1000))
    return next(folder for folder in candidates if not folder.exists())


def run_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint lies in, if it lies in one."""
    folder = Path(checkpoint).absolute().parent.parent
    return folder if (folder / "config.yaml").is_file() else None


def find_last(root: str | Path) -> Path:
    """The last checkpoint of the newest run under ``root`` that has a readable one.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = sorted(Path(root).glob("*/checkpoints/last.ckpt"), key=lambda path: path.parent.parent.name, reverse=True)
    for checkpoint in found:
        try:
            read_checkpoint(checkpoint)
        except ValueError as error:
            warn(f"{error}; looking at the run before")
        else:
            return checkpoint
    raise FileNotFoundError(
        f"--ckpt_path last: no run under {root} has a readable checkpoints/last.ckpt; "
        "start without --ckpt_path, or name the folder of the runs by --trainer.default_root_dir"
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def shell(*words: str | Path) -> str:
    """A command line to copy."""
    return shlex.join(str(word) for word in words)
