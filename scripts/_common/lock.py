"""Keeping a second process out of a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_one(folder: Path, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which the operating system releases when this process ends, even by a kill.

    A folder that cannot be locked (read-only, or on a file system without locks) is not locked.

    Args:
        folder: The folder; a hidden file in it is locked, and removed afterwards.
        busy: Message if another process holds the lock, which is then named.
        wait: Wait for the other process.

    Raises:
        ValueError: If another process holds the lock and `wait` is false.
    """
    path = folder / ".lock"
    try:
        file = _locked(path, busy, wait)
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):  # a full disk
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _locked(path: Path, busy: str, wait: bool) -> IO[str]:
    """Return the locked file, of which another process does not remove the name."""
    while True:
        file = open(path, "a+")  # noqa: SIM115 (the caller closes it)
        try:
            if fcntl is not None:  # a lock of POSIX, which forked workers do not keep
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise ValueError(f"{busy} (found {holder})") from error
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
        file.close()
