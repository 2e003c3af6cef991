"""Checkpoints that are complete or absent: written next to their target, synced, then renamed over it."""

import mmap
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_warn
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from .trust import leaves

MAX_RATIO = 8  # torch packs nothing, so that an honest archive is as large as its content
MAX_BYTES = 64 * 2**30


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

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path`; if the disk refuses, keep the existing file and warn.

        Raises:
            TypeError: If `storage_options`, which are for remote file systems, are given.
        """
        if storage_options is not None:
            raise TypeError(
                f"AtomicCheckpointIO writes local files and takes no storage_options, found {storage_options}"
            )
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            _write_synced(checkpoint, partial)
            os.replace(partial, target)
            _sync_folder(target.parent)
        except OSError as error:
            self.failed[target] = error.strerror or str(error)
            kept = "the previous checkpoint there is kept" if target.exists() else "there is no earlier one"
            reason = self.failed[target]
            rank_zero_warn(
                f"checkpoint {target} was not saved: {reason}; {kept}, training continues: make room on the disk"
            )
        else:
            self.failed.pop(target, None)
        finally:
            partial.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, by default with `weights_only=True`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is truncated, or is not a Lightning checkpoint.
        """
        return read_checkpoint(path, map_location, weights_only=weights_only is not False)


def read_checkpoint(path: Any, map_location: Any | None = "cpu", *, weights_only: bool = True) -> dict[str, Any]:
    """Read a Lightning checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, is not a Lightning checkpoint, or unpacks to far more than its size.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: check the path")
    try:
        _check_archive(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=weights_only)
    except Exception as error:  # damaged bytes fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"cannot read the checkpoint {path}: it is truncated or not a checkpoint ({reason[:120]}); "
            "take another one, or start without --ckpt_path"
        ) from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys():
        content = (
            f"keys {sorted(map(str, checkpoint))[:5]}" if isinstance(checkpoint, dict) else type(checkpoint).__name__
        )
        raise ValueError(
            f"{path} is not a Lightning checkpoint (found {content}): give one that a training run has saved"
        )
    for key, kind in {"state_dict": dict, "hyper_parameters": dict, "pytorch-lightning_version": str}.items():
        if not isinstance(checkpoint.get(key, kind()), kind):
            found = type(checkpoint[key]).__name__
            raise ValueError(f"{path} is damaged: its {key} must be a {kind.__name__}, found {found}")
    for _, value in leaves(checkpoint, path):  # refuses data that are nested too deeply
        if type(value) is Tensor and value.layout is torch.strided and value.device.type != "meta":
            size, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if size > max(MAX_RATIO * held, 2**20):  # a number, shown as a huge tensor
                raise ValueError(
                    f"{path} holds a tensor of {size:,} bytes in {held:,}: it is damaged or made to do harm"
                )
    return checkpoint


def _check_archive(path: Any) -> None:
    """Refuse a zip archive that is larger than it looks, or holds what torch does not write."""
    with open(path, "rb") as file:  # torch looks at the first bytes, zipfile at the last
        if file.read(4) != b"PK\x03\x04":  # torch's older format, which is not packed
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(b"bytearray") >= 0:  # whose constructor fills the memory
                    raise ValueError("it makes a bytearray")
            return
    with zipfile.ZipFile(path) as archive:
        unpacked, packed = sum(entry.file_size for entry in archive.infolist()), os.path.getsize(path)
        if unpacked > min(MAX_RATIO * packed, MAX_BYTES):
            raise ValueError(f"it unpacks from {packed:,} to {unpacked:,} bytes")
        for name in archive.namelist():
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise ValueError(f"it holds a file named {name!r}")
            if name.endswith(".pkl") and b"bytearray" in archive.read(name):
                raise ValueError("it makes a bytearray")


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


def load_matching(module: nn.Module, state_dict: dict[str, Tensor]) -> list[str]:
    """Copy the tensors of `state_dict` whose name and shape match those in `module`.

    A network with another number of classes thus takes all layers but the last.

    Args:
        module: The network, changed in place.
        state_dict: Weights by name.

    Returns:
        The names in `module` that were not loaded.

    Raises:
        ValueError: If no tensor matches.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 10))
    >>> load_matching(net, nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5)).state_dict())
    ['1.weight', '1.bias']
    """
    own = module.state_dict()
    fitting = {name: value for name, value in state_dict.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ValueError(
            f"no weight fits: the network has {', '.join(list(own)[:3])}..., "
            f"the checkpoint {', '.join(list(state_dict)[:3])}...; "
            "give the backbone that the checkpoint was trained with"
        )
    module.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
