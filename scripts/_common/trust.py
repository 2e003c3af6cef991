"""The config.yaml of a run, which may name only what a file may name; see `lightning_modules.runs.trust`."""

import os
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from _common.names import full_path
from _common.own_runs import is_proven, prove
from _common.run import check_unchanged

MAX_BYTES = 1_000_000
MAX_ENTRIES = 20_000


def checked_config(folder: Path, trust: str = "") -> dict[str, Any]:
    """Return what a run's config.yaml holds, if it names nothing but what a file may name.

    What this user has started on this machine names what was typed, which is trusted. The parser takes some strings for
    YAML or for the name of a YAML file: what these hold is checked too.

    Args:
        folder: The run.
        trust: Further packages that the file may name, separated by commas.

    Raises:
        ValueError: If it is not readable, names what it may not, or the folder has links that lead out of it.
    """
    from lightning_modules.runs.trust import check, leaves, needed

    for link in (path for path in folder.rglob("*") if path.is_symlink()):
        target = Path(os.path.realpath(link))
        if not target.is_relative_to(folder.resolve()):
            raise ValueError(f"{link} is a link out of the run's folder, to {target}: put the file in its place")
    path = folder / "config.yaml"
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES:,} bytes: give --config FILE instead")
    try:
        text = path.read_text()
        config = get_loader("yaml")(text)
    except Exception as error:  # of the text's encoding, of YAML, or of Python's stack
        raise ValueError(f"cannot read {path}: {str(error).splitlines()[0]}; give --config FILE instead") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold options, found {type(config).__name__}: give --config FILE instead")
    check_unchanged(text, path)
    trusted = packages(trust) + (needed(_without_name(config)) if is_proven(folder) else [])
    waiting: list[tuple[Any, Path]] = [(_without_name(config), folder)]
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
        check(data, path, trusted)
    return config


def _without_name(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without the run's name, a text that reads like an import path if it is `v1.2` or so."""
    return {key: value for key, value in config.items() if key != "name" or not isinstance(value, str)}


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
        if file.stat().st_size <= MAX_BYTES:
            texts.append((file.read_text(errors="replace"), file.parent))
        elif file.suffix in (".yaml", ".yml", ".json"):
            raise ValueError(f"{file} is larger than {MAX_BYTES:,} bytes: give --config FILE instead")
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

    names = needed(_without_name(get_loader("yaml")((folder / "config.yaml").read_text())))
    return ("--trust", ",".join(names)) if names else ()


def keep_trust(folder: Path) -> None:
    """Let a run that names one's own classes be continued on this machine without `--trust`."""
    if trusting(folder):
        prove(folder)
