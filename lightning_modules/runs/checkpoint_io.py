"""Checkpoints that are complete or absent: written next to their target, synced, then renamed over it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_warn
from pytorch_lightning.plugins.io import TorchCheckpointIO

from .finite import broken_weight
from .reading import read_checkpoint as read_checkpoint
from .weights import load_matching as load_matching


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint so that a kill or a full disk leaves the previous one untouched.

    Lightning's own writer uses the system's temporary folder; if that is on another file system, the checkpoint is
    copied, and a kill during the copy leaves a partial file under its name. Here the bytes go to a hidden file in the
    same folder, are synced to the disk, and `os.replace` renames the file in one step.

    When the disk refuses a save (full, over quota), training continues and the previous checkpoint is kept, with a
    warning. The path stays in `failed` until a later save to it succeeds: a run must not be lost because a disk was
    full for a minute.

    Attributes:
        failed: For each path whose newest save failed, the reason.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "last.ckpt"
    >>> io = AtomicCheckpointIO()
    >>> io.save_checkpoint({"state_dict": {}, "pytorch-lightning_version": "2.6.6"}, path)
    >>> sorted(io.load_checkpoint(path))
    ['pytorch-lightning_version', 'state_dict']
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[Path, str] = {}
        self._refused: Path | None = None  # the newest save, if it failed and there is no such file

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path`; if it is marked as `broken`, or the disk refuses, keep the old file and warn.

        Raises:
            TypeError: If `storage_options`, which are for remote file systems, are given.
        """
        if storage_options is not None:
            raise TypeError(
                f"AtomicCheckpointIO writes local files and takes no storage_options, found {storage_options}"
            )
        target = Path(path)
        broken = checkpoint.pop("broken", None)
        if "optimizer_states" not in checkpoint:  # weights only, at which no callback looks before they are saved
            part = broken_weight(checkpoint["state_dict"])
            broken = broken or (f"the weights are NaN or infinite ({part})" if part is not None else None)
        if broken is not None:
            self.failed[target] = broken
            rank_zero_warn(f"checkpoint {target} was not saved: {broken}; training continues")
            return
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(checkpoint, partial)
            os.replace(partial, target)
            _sync_folder(target.parent)
        except OSError as error:
            self.failed[target] = error.strerror or str(error)
            kept = "the previous checkpoint there is kept" if target.exists() else "there is no earlier one"
            self._refused = None if target.exists() else target
            reason = self.failed[target]
            rank_zero_warn(
                f"checkpoint {target} was not saved: {reason}; {kept}, training continues: make room on the disk"
            )
        else:
            self.failed.pop(target, None)
            self._refused = None
        finally:
            with suppress(OSError):  # a folder gone read-only
                partial.unlink(missing_ok=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint, unless it is kept in place of a newer one that the disk refused.

        ModelCheckpoint removes the file that a better one replaces. If that one was refused, its name becomes a link to
        this file, so that there is a best checkpoint and its name shows which one it is.
        """
        unwanted, kept = Path(path), Path(path).resolve()
        try:
            if self._refused is not None and self._refused.parent == unwanted.parent and kept.exists():
                self._refused.symlink_to(kept.name)
            else:
                super().remove_checkpoint(kept)
            if unwanted.is_symlink():
                unwanted.unlink()
        except OSError as error:
            rank_zero_warn(f"checkpoint {unwanted} was not removed: {error.strerror or error}")
        self.failed.pop(unwanted, None)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, by default with `weights_only=True`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is truncated, or is not a Lightning checkpoint.
        """
        return read_checkpoint(path, map_location, weights_only=weights_only is not False)


def _write_synced(checkpoint: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:
            # torch's zip writer turns the operating system's error into a RuntimeError without its errno.
            file.flush()
            raise OSError(f"could not write {path}: {str(error).splitlines()[0]}") from error
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # The rename must survive a power cut too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
