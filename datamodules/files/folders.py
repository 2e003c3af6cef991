"""The files below a folder, and why others are left out."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from .messages import shown

SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
"""Folders that systems put into the user's own."""


@dataclass
class LeftOut:
    """The files that a listing leaves out, by reason."""

    paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: str) -> None:
        """Note a path."""
        self.paths.setdefault(reason, []).append(path)

    def __str__(self) -> str:
        """Return a clause with the number of paths and an example of each reason, or nothing."""
        total = sum(map(len, self.paths.values()))
        parts = [
            f"{len(paths)} {reason} ({shown(os.path.basename(min(paths)))})"
            for reason, paths in sorted(self.paths.items())
        ]
        return f"left out {total}: {', '.join(parts)}" if parts else ""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or a system's own.

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("cat.png")
    (True, False)
    """
    return name.startswith(".") or name in SYSTEM_FOLDERS


def leads_up(link: str) -> bool:
    """Return whether a link leads to a folder that contains it."""
    here, target = os.path.realpath(os.path.dirname(link)), os.path.realpath(link)
    return os.path.commonpath([here, target]) == target


def walk(folder: str, accept: Callable[[str], bool], wanted: str, left_out: LeftOut) -> list[tuple[str, int, int]]:
    """Return path, size and time of the files below a folder, sorted by path.

    Hidden files and folders are left out at every depth. Links to folders are followed, each folder is read once.

    Args:
        folder: The folder.
        accept: Whether a file is wanted, by its name.
        wanted: What the wanted files are, for the reason why others are left out: "not an image".
        left_out: Takes the paths that are left out.
    """
    found: list[tuple[str, int, int]] = []
    links: list[str] = []
    status = os.stat(folder)
    seen = {(status.st_dev, status.st_ino)}
    folders = [folder]
    while folders or links:
        if folders:
            here = folders.pop()
        else:  # the real folders first, so that what a link adds does not depend on the order of the disk
            links.sort(reverse=True)
            here = links.pop()
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen or leads_up(here):
                left_out.add("a link to a folder that is read already", here)
                continue
            seen.add((status.st_dev, status.st_ino))
        with os.scandir(here) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    left_out.add("hidden", entry.path)
                elif _is_folder(entry):
                    if entry.is_symlink():
                        links.append(entry.path)
                    elif (identity := _identity(entry)) not in seen:
                        seen.add(identity)
                        folders.append(entry.path)
                    else:
                        left_out.add("a folder that is read already", entry.path)
                elif not accept(entry.name):
                    left_out.add(f"not {wanted}", entry.path)
                else:
                    _take(entry, found, left_out)
    return sorted(found)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(entry: "os.DirEntry[str]") -> tuple[int, int]:
    status = os.stat(entry.path)  # an entry's own has no numbers on Windows
    return status.st_dev, status.st_ino


def _take(entry: "os.DirEntry[str]", found: list[tuple[str, int, int]], left_out: LeftOut) -> None:
    """Add a regular file."""
    try:
        status = entry.stat()
    except OSError:
        left_out.add("a broken link", entry.path)
        return
    if stat.S_ISREG(status.st_mode):
        found.append((entry.path, status.st_size, status.st_mtime_ns))
    else:
        left_out.add("not a regular file", entry.path)  # reading a pipe would wait for ever
