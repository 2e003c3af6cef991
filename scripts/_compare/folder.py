"""Locating and identifying the folder of a comparison."""

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from _common.lock import only_one
from _common.run import ROOT, new_run, write_json
from _compare.grid import Combination

DEFINITION = "comparison.json"
RESULTS = "results.json"


def definition(combinations: Sequence[Combination], threads: int) -> dict[str, Any]:
    """Return everything that decides the numbers of a comparison's runs, except the seeds."""
    return {"threads": threads, "combinations": {one.name: one.config for one in combinations}}


def find_folder(output: Path | None, defined: dict[str, Any], seeds: Sequence[int], command: str) -> Path:
    """Return the folder to work in, and write the comparison's definition and its command line there.

    It is `output`, or by default the newest unfinished folder of the same comparison, or a new one.
    """
    folder = output or _unfinished(Path(ROOT), defined, seeds) or new_run(ROOT)
    known = _read(folder)
    if known is None and folder.exists() and any(path.name != ".lock" for path in folder.iterdir()):
        raise ValueError(f"--output {folder} holds other files: give another folder")
    if known is not None and not _same(known, defined, seeds):
        raise ValueError(
            f"--output {folder} holds another comparison: give another folder, or continue it with {known['command']}"
        )
    write_json(folder / DEFINITION, defined | {"seeds": list(seeds), "command": command})
    return folder


def _same(known: dict[str, Any], defined: dict[str, Any], seeds: Sequence[int]) -> bool:
    """Whether the runs are the same; further seeds may be added."""
    return known | defined == known and set(known["seeds"]) <= set(seeds)


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / DEFINITION
    return json.loads(path.read_text()) if path.is_file() else None


def _unfinished(root: Path, defined: dict[str, Any], seeds: Sequence[int]) -> Path | None:
    for path in sorted(root.glob(f"*/{DEFINITION}"), reverse=True):
        known, finished = _read(path.parent), (path.parent / RESULTS).exists()
        if known is not None and not finished and known["seeds"] == list(seeds) and _same(known, defined, seeds):
            return path.parent
    return None


def only_one_comparison(folder: Path, wait: bool = False) -> AbstractContextManager[None]:
    """Keep a second comparison, or a second process of a run, out of the folder: refuse it, or let it `wait`."""
    return only_one(folder, f"another comparison is running in {folder}: wait for it, or give another --output", wait)


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """Return a name of a folder for each combination."""
    folders: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.=+]+", "-", name).strip("-.")[:100] or "run"
        candidates = (plain, *(f"{plain}-{number}" for number in range(2, 10**4)))
        folders[name] = next(one for one in candidates if one not in folders.values())
    return folders


def run_folders(combinations: Sequence[Combination], seeds: Sequence[int]) -> dict[tuple[str, int], Path]:
    """Return (combination, seed) -> its folder inside the comparison's, which TensorBoard shows as the run's name."""
    folders = plain_names([one.name for one in combinations])
    return {(one.name, seed): Path(folders[one.name]) / f"seed-{seed}" for seed in seeds for one in combinations}
