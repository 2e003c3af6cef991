"""Reading checkpoints of unknown origin and condition: damaged, truncated, made to do harm."""

import mmap
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .trust import leaves

MAX_RATIO = 8  # torch packs nothing, so that an honest archive is as large as its content
MAX_BYTES = 64 * 2**30


def read_checkpoint(path: Any, map_location: Any | None = "cpu", *, weights_only: bool = True) -> dict[str, Any]:
    """Read a Lightning checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, is not a Lightning checkpoint, or unpacks to far more than its size.
    """
    checkpoint = read_file(path, map_location, weights_only=weights_only)
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
    refuse_huge(checkpoint, path)
    return checkpoint


def read_file(path: Any, map_location: Any | None = "cpu", *, weights_only: bool = True) -> Any:
    """Read what torch has saved, whatever it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or damaged, or unpacks to far more than its size.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: check the path")
    try:
        return _load(path, map_location, weights_only)
    except Exception as error:  # damaged bytes fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        state = "damaged" if isinstance(error, ChecksumError) else "truncated or not a checkpoint"
        good = _newest_good_beside(Path(path))
        remedy = f"the newest good one beside it is {good}" if good else "take another one"
        raise ValueError(
            f"cannot read the checkpoint {path}: it is {state} ({reason[:120]}); {remedy}, or start again"
        ) from error


def refuse_huge(content: Any, path: Any) -> None:
    """Refuse tensors that are far larger than the memory that they show, and data that are nested too deeply."""
    for _, value in leaves(content, path):  # refuses data that are nested too deeply
        if type(value) is Tensor and value.layout is torch.strided and value.device.type != "meta":
            size, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if size > max(MAX_RATIO * held, 2**20):  # a number, shown as a huge tensor
                raise ValueError(
                    f"{path} holds a tensor of {size:,} bytes in {held:,}: it is damaged or made to do harm"
                )


def check_resumable(checkpoint: dict[str, Any], path: Any) -> None:
    """Check that training can continue from a checkpoint.

    Raises:
        ValueError: If it holds only weights, or what it holds besides is damaged.
    """
    kinds = {"loops": dict, "optimizer_states": list, "lr_schedulers": list, "callbacks": dict, "global_step": int}
    if missing := [key for key in kinds if key not in checkpoint]:
        raise ValueError(
            f"{path} holds weights only (no {', '.join(missing)}), from which training cannot continue: "
            f"start a new run with --init_from {path}"
        )
    for key, kind in kinds.items():
        if not isinstance(checkpoint[key], kind):
            found = type(checkpoint[key]).__name__
            raise ValueError(f"{path} is damaged: its {key} must be a {kind.__name__}, found {found}")
    if "fit_loop" not in checkpoint["loops"]:
        raise ValueError(f"{path} is damaged: its loops must have a fit_loop, found {list(checkpoint['loops'])}")


class ChecksumError(ValueError):
    """The content of a file does not match the checksum that was written with it."""


def _load(path: Any, map_location: Any = "cpu", weights_only: bool = True) -> Any:
    _check_archive(path)
    return torch.load(path, map_location=map_location, weights_only=weights_only)


def _newest_good_beside(path: Path) -> Path | None:
    """Return the newest readable checkpoint in the folder of `path` besides `path`."""
    others = [other for other in path.parent.glob("*.ckpt") if other.name != path.name and other.is_file()]
    for other in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True):
        with suppress(Exception):  # damaged too, in any way
            if "state_dict" in _load(other):
                return other
    return None


def _check_archive(path: Any) -> None:
    """Refuse a zip archive that is damaged, is larger than it looks, or holds what torch does not write."""
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
        if damaged := archive.testzip():  # which torch does not look at
            raise ChecksumError(f"{damaged} does not match its checksum")
        for name in archive.namelist():
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise ValueError(f"it holds a file named {name!r}")
            if name.endswith(".pkl") and b"bytearray" in archive.read(name):
                raise ValueError("it makes a bytearray")
