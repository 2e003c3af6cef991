"""Whether a run was started by its user on this machine: then its config.yaml holds what the user has typed."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

PROOF = ".started_here"
"""A file in a run's folder: a message authentication code of its config.yaml, with the user's key."""


def prove(folder: Path) -> None:
    """Write the proof of a run's config.yaml, if the user's key can be kept: in a folder that nobody else reads."""
    key = _key(make=True)
    if key is not None:
        with suppress(OSError):
            (folder / PROOF).write_text(_code(key, folder))


def is_proven(folder: Path) -> bool:
    """Return whether a run's config.yaml is as this user has started it on this machine."""
    key = _key(make=False)
    with suppress(OSError, UnicodeDecodeError):
        return key is not None and hmac.compare_digest((folder / PROOF).read_text(), _code(key, folder))
    return False


def _code(key: bytes, folder: Path) -> str:
    return hmac.new(key, (folder / "config.yaml").read_bytes(), hashlib.sha256).hexdigest()


def _key(make: bool) -> bytes | None:
    with suppress(OSError, RuntimeError):  # no home, or a read-only one
        path = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "lightning-blocks" / "key"
        if make and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = path.with_name(f".key.{os.getpid()}")
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was faster
                os.link(partial, path)
            partial.unlink()
        state = path.stat()
        if state.st_uid == os.getuid() and not state.st_mode & 0o077:
            return path.read_bytes() or None
    return None
