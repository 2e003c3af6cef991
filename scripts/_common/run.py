"""A run: a folder `runs/<time>-<name>/` with config.yaml, checkpoints/, tensorboard/, metrics.csv and results.json."""

import itertools
import json
import math
import os
import shlex
import shutil
import time
import zlib
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from _common.console import print_files, say
from _common.errors import one_line, warn
from _common.lock import only_one

ROOT = "runs"
STARTED = "# started "
"""How the first line of a config.yaml begins."""

CHECKSUM = "# checksum "
"""How its second line begins, with the CRC-32 of all other lines."""

LONGEST, LONGEST_BYTES = 80, 200
"""How many characters, and bytes in UTF-8, the name of a run may have."""


@dataclass(frozen=True)
class Run:
    """The folder of one run."""

    folder: Path
    resumed: bool = False  # whether a training that stopped continues here
    new: bool = False  # whether this process has made the folder

    @classmethod
    def at(cls, output: str | Path | None) -> "Run":
        """Return the run in the folder `output`, or a new one under runs/, after making the folder."""
        run = cls(Path(output)) if output is not None else cls(new_run(), new=True)
        run.folder.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def to_train(
        cls, root: str | Path, checkpoint: str | Path | None, make: bool = True, name: str | None = None
    ) -> "Run":
        """Apply the resume rule: a `last.ckpt` continues in its own folder, anything else starts a new run.

        Only the first of several processes may `make` the folder. A new one may have a `name`.
        """
        folder = run_of(checkpoint) if checkpoint is not None else None
        if folder is not None and Path(str(checkpoint)).name == "last.ckpt":
            return cls(folder, resumed=True)
        return cls(new_run(root, name), new=True) if make else cls(Path(root) / "of another process")

    def only_trainer(self) -> AbstractContextManager[None]:
        """Refuse a second process that trains in this folder while the first one is alive."""
        last = shell(self.checkpoint("last"))
        return only_one(
            self.folder, f"--ckpt_path {last}: the run is being trained; wait for its end, or stop it first"
        )

    @property
    def config(self) -> Path:
        """Return the path of the configuration."""
        return self.folder / "config.yaml"

    def checkpoint(self, name: str) -> Path:
        """Return the path of `best` or `last`."""
        return self.folder / "checkpoints" / f"{name}.ckpt"

    def loggers(self, log_graph: bool = False) -> list[Any]:
        """Return loggers for TensorBoard and CSV, which continue a resumed run from its last checkpoint."""
        from lightning_modules.runs.checkpoint_io import read_checkpoint
        from lightning_modules.runs.loggers import CSVLog, TensorBoardLog

        step = read_checkpoint(self.checkpoint("last"))["global_step"] if self.resumed else None
        return [TensorBoardLog(self.folder / "tensorboard", step, log_graph), CSVLog(self.folder / "metrics.csv")]

    def save_config(self, text: str) -> None:
        """Write config.yaml, which repeats the run, under the time of its start; a resume keeps that time only."""
        path = self.config
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            began = started(self.folder) if path.exists() else datetime.now().isoformat()
            first = f"{STARTED}{began}\n"
            write_text(path, f"{first}{CHECKSUM}{_crc(first + text)}\n{text}")
        except OSError as error:
            if not self.resumed:
                raise
            warn(f"{one_line(error)}: config.yaml is that of the training before")

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write results.json, print where every file of `results["files"]` is, and return the results."""
        write_json(self.folder / "results.json", results)
        print_files(self.folder, results["files"])
        return results

    def remove_if_empty(self, trained: bool = True) -> None:
        """Remove a new run that ended before its first checkpoint, or with that of the start if nothing was trained."""
        saved = {path.name for path in self.folder.glob("checkpoints/*.ckpt")}
        if self.new and not (saved if trained else saved - {"last.ckpt"}):
            shutil.rmtree(self.folder, ignore_errors=True)

    def remove_half_written(self) -> None:
        """Remove the hidden files, named after their process, that a killed one was writing."""
        for path in self.folder.rglob(".*.partial"):
            number = path.name.split(".")[-2]
            if number.isdecimal() and not _is_alive(int(number)):
                with suppress(OSError):
                    path.unlink()
                    warn(f"{path} was half written by a process that was killed: removed")

    def watch(self, folder: Path | None = None, tab: str = "") -> None:
        """Print the command that shows the curves under `folder`, by default the run's, in TensorBoard."""
        command = shell("tensorboard", "--logdir", folder or self.folder)
        say(f"{'watch':<11} {command}" + (f"   ({tab})" if tab else ""))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no number of a process
        pass
    return True


def check_name(name: str | None) -> None:
    """Refuse a name that cannot be a part of a folder's.

    Raises:
        ValueError: If it is empty or long, begins with a dot, begins or ends with a space, or has a separator, a
            control or another invisible character.
    """
    if name is None:
        return
    wrong = [
        (not name.strip(), "must not be empty"),
        (len(name) > LONGEST, f"must have at most {LONGEST} characters, found {len(name)}"),
        (not name.isprintable(), "must have no control or other invisible characters"),
        (bool({"/", "\\"} & set(name)), "must be a name and not a path"),
        (name.startswith("."), "must not begin with a dot, which hides a folder"),
        (name != name.strip(), "must not begin or end with a space"),
    ]
    for is_wrong, reason in wrong:
        if is_wrong:
            raise ValueError(f"--name {reason}" + ("" if "found" in reason else f", found {name!r}"))
    if len(name.encode()) > LONGEST_BYTES:  # of a folder's 255, with the time and a number
        raise ValueError(f"--name must have at most {LONGEST_BYTES} bytes in UTF-8, found {len(name.encode())}")


def new_run(root: str | Path = ROOT, name: str | None = None) -> Path:
    """Make a folder under `root` that no other process has, `<time>` or `<time>-<name>`, and return it."""
    name = time.strftime("%Y%m%d-%H%M%S") + (f"-{name}" if name else "")
    Path(root).mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        folder = Path(root) / (f"{name}-{number}" if number else name)
        with suppress(FileExistsError):  # of a run that started in the same second
            folder.mkdir()
            break
    return folder


def run_of(checkpoint: str | Path) -> Path | None:
    """Return the run folder that a checkpoint is in, or None if it is in no run."""
    folder = Path(checkpoint).absolute().parent.parent
    return folder if (folder / "config.yaml").is_file() else None


def find_last(root: str | Path) -> Path:
    """Return the last checkpoint of the newest run under `root` that has a readable one."""
    from lightning_modules.runs.checkpoint_io import read_checkpoint

    checkpoints = Path(root).glob("*/checkpoints/last.ckpt")
    for checkpoint in sorted(checkpoints, key=lambda path: started(path.parents[1]), reverse=True):
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


def started(folder: Path) -> str:
    """Return the time at which a run was started, which a renamed or moved folder keeps in its config.yaml.

    Without it, that is the time in the folder's name, otherwise that of its newest file.
    """
    with suppress(OSError, UnicodeDecodeError), open(folder / "config.yaml") as file:
        line = file.readline(100)
        if line.startswith(STARTED):
            return line.removeprefix(STARTED).strip()
    with suppress(ValueError):
        return datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").isoformat() + folder.name[15:]
    return datetime.fromtimestamp(folder.stat().st_mtime).isoformat()


def check_unchanged(text: str, path: Path) -> None:
    """Refuse a config.yaml that is not as `save_config` wrote it; one without a checksum is not checked.

    Raises:
        ValueError: If its checksum differs.
    """
    first, _, rest = text.partition("\n")
    second, _, rest = rest.partition("\n")
    found = second.removeprefix(CHECKSUM)
    if second.startswith(CHECKSUM) and found != _crc(f"{first}\n{rest}"):
        raise ValueError(
            f"{path} was edited or is damaged (its checksum is not {found}): look at it, and delete its second line "
            "if it is right"
        )


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON, whole or not at all; a number that is not finite, which JSON does not know, as null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration as `a.b.c` -> plain value.

    Example:
        >>> flatten({"optimizer": {"class_path": "optim.LAMB", "init_args": {"lr": 0.01}}})
        {'optimizer.class_path': 'optim.LAMB', 'optimizer.lr': 0.01}
    """
    if hasattr(config, "as_dict"):
        config = config.as_dict()
    if not isinstance(config, dict):
        return {prefix: config if isinstance(config, (int, float, str, bool)) else str(config)}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, prefix if key == "init_args" else f"{prefix}.{key}" if prefix else key)
    return flat


def shell(*words: str | Path) -> str:
    """Return a command line, quoted for the shell."""
    return shlex.join(str(word) for word in words)
