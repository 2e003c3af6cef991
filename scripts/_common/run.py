"""A run: a folder `runs/<time>/` with config.yaml, checkpoints/, tensorboard/, metrics.csv and results.json."""

import json
import os
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from _common.console import print_files, say
from _common.errors import warn
from _common.names import full_path

ROOT = "runs"
MAX_CONFIG = 1_000_000  # bytes
MAX_ENTRIES = 20_000  # of config.yaml


@dataclass(frozen=True)
class Run:
    """The folder of one run."""

    folder: Path
    resumed: bool = False  # whether a training that stopped continues here

    @classmethod
    def at(cls, output: str | Path | None) -> "Run":
        """Return the run in the folder `output`, or a new one under runs/, after making the folder."""
        run = cls(Path(output) if output is not None else new_run())
        run.folder.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def to_train(cls, root: str | Path, checkpoint: str | Path | None) -> "Run":
        """Apply the resume rule: a `last.ckpt` continues in its own folder, anything else starts a new run."""
        folder = run_of(checkpoint) if checkpoint is not None else None
        if folder is not None and Path(str(checkpoint)).name == "last.ckpt":
            return cls(folder, resumed=True)
        return cls(new_run(root))

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
        """Write config.yaml, which repeats the run, unless there is one."""
        path = self.folder / "config.yaml"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write results.json, print where every file of `results["files"]` is, and return the results."""
        write_json(self.folder / "results.json", results)
        print_files(self.folder, results["files"])
        return results

    def remove_if_empty(self) -> None:
        """Remove a run that stopped before its first checkpoint."""
        if not self.resumed and not any(self.folder.glob("checkpoints/*.ckpt")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def watch(self, folder: Path | None = None, tab: str = "") -> None:
        """Print the command that shows the curves under `folder`, by default the run's, in TensorBoard."""
        command = shell("tensorboard", "--logdir", folder or self.folder)
        say(f"{'watch':<11} {command}" + (f"   ({tab})" if tab else ""))


def new_run(root: str | Path = ROOT) -> Path:
    """Return an unused folder name under `root`, made of the time."""
    name = time.strftime("%Y%m%d-%H%M%S")
    candidates = (Path(root) / (f"{name}-{number}" if number else name) for number in range(1000))
    return next(folder for folder in candidates if not folder.exists())


def run_of(checkpoint: str | Path) -> Path | None:
    """Return the run folder that a checkpoint is in, or None if it is in no run."""
    folder = Path(checkpoint).absolute().parent.parent
    return folder if (folder / "config.yaml").is_file() else None


def checked_config(folder: Path, trust: str = "") -> dict[str, Any]:
    """Return what a run's config.yaml holds, if it names nothing but what a file may name.

    The parser takes some strings for YAML or for the name of a YAML file: what these hold is checked too.

    Args:
        folder: The run.
        trust: Further packages that the file may name, separated by commas.

    Raises:
        ValueError: If it is not readable, names what it may not, or the folder has links that lead out of it.
    """
    from lightning_modules.runs.trust import check, leaves

    for link in (path for path in folder.rglob("*") if path.is_symlink()):
        target = Path(os.path.realpath(link))
        if not target.is_relative_to(folder.resolve()):
            raise ValueError(f"{link} is a link out of the run's folder, to {target}: put the file in its place")
    path = folder / "config.yaml"
    if path.stat().st_size > MAX_CONFIG:
        raise ValueError(f"{path} is larger than {MAX_CONFIG:,} bytes: give --config FILE instead")
    try:
        config = get_loader("yaml")(path.read_text())
    except Exception as error:  # of the text's encoding, of YAML, or of Python's stack
        raise ValueError(f"cannot read {path}: {str(error).splitlines()[0]}; give --config FILE instead") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold options, found {type(config).__name__}: give --config FILE instead")
    waiting: list[tuple[Any, Path]] = [(config, folder)]
    seen, entries = set(), 0
    while waiting:
        data, at = waiting.pop()
        for place, value in leaves(data, path):
            entries += 1
            if entries > MAX_ENTRIES:
                raise ValueError(f"{path} holds more than {MAX_ENTRIES:,} entries: it is damaged or made to do harm")
            if not isinstance(value, str) or (place[-1:], value, at) in seen:
                continue
            seen.add((place[-1:], value, at))
            _check_name(place, value, folder)
            waiting += [({place[-1]: one} if place else one, there) for one, there in _nested_text(value, at)]
        check(data, path, packages(trust))
    return config


def _check_name(place: tuple[str, ...], value: str, folder: Path) -> None:
    """Refuse a short name, which the parser would look up among all classes, and a file that a callback overwrites."""
    key = next((name for name in reversed(place) if name not in ("class_path", "init_args")), "")
    if place[-1:] in (("class_path",), ("logger",)) and "." not in full_path(key, value):
        raise ValueError(f"{folder / 'config.yaml'} names {value!r} ({key}): write its full import path")
    if key == "path" and "callbacks" in place and not Path(value).resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder / 'config.yaml'} names {value!r}, a file out of the run's folder that a callback writes: "
            "remove the callback"
        )


def _nested_text(value: str, folder: Path) -> list[tuple[Any, Path]]:
    """Return what the parser would read in place of a string that is YAML or names a YAML file, and the file's folder.

    Raises:
        ValueError: If such a file of the folder is too large to be looked at.
    """
    texts = [(value, folder)]
    for file in (folder / value, Path(value)):
        if not os.path.isfile(file):  # Path.is_file fails for a long text
            continue
        if file.stat().st_size <= MAX_CONFIG:
            texts.append((file.read_text(errors="replace"), file.parent))
        elif file.suffix in (".yaml", ".yml", ".json"):
            raise ValueError(f"{file} is larger than {MAX_CONFIG:,} bytes: give --config FILE instead")
    found = []
    for text, there in texts:
        try:
            one = get_loader("yaml")(text)
        except Exception:  # the parser cannot read it either
            continue
        if isinstance(one, dict | list) or (isinstance(one, str) and one != value):
            found.append((one, there))
    return found


def packages(trust: str | None) -> list[str]:
    """Return the packages of `--trust`.

    Example:
        >>> packages("my_net, my_data")
        ['my_net', 'my_data']
    """
    return [name.strip() for name in (trust or "").split(",") if name.strip()]


def trusting(folder: Path) -> tuple[str, ...]:
    """Return the option `--trust` that a command on a run needs, or nothing."""
    from lightning_modules.runs.trust import needed

    names = needed(get_loader("yaml")((folder / "config.yaml").read_text()))
    return ("--trust", ",".join(names)) if names else ()


def find_last(root: str | Path) -> Path:
    """Return the last checkpoint of the newest run under `root` that has a readable one."""
    from lightning_modules.runs.checkpoint_io import read_checkpoint

    checkpoints = Path(root).glob("*/checkpoints/last.ckpt")
    for checkpoint in sorted(checkpoints, key=lambda path: path.parent.parent.name, reverse=True):
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
    """Write `content` as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


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
