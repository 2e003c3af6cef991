"""Arrays on disk with checksums, for a fast second start."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .messages import shown


@dataclass(frozen=True)
class ArrayCache:
    """Arrays on disk, each valid if the checksums of its source and of its own bytes match the recorded ones."""

    folder: Path  # created if it is missing
    name: str  # prefix of the file names
    checksum: str  # of the source
    required: bool  # raise an error if the files cannot be written, instead of a warning

    def _path(self, array: str) -> Path:
        return self.folder / f"{self.name}.{array}.npy"

    def read(self, array: str, into: NDArray[np.generic]) -> bool:
        """Fill `into` from the disk; return False if there is no valid array of its shape and type."""
        try:
            record = json.loads((self.folder / f"{self.name}.json").read_text())
            if record["source"] != self.checksum:
                return False
            with open(self._path(array), "rb") as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                if shape != into.shape or dtype != into.dtype:
                    return False
                file.readinto(into.data.cast("B"))
            return bool(record[array] == _digest(into))
        except (OSError, ValueError, KeyError, TypeError):  # missing, truncated or damaged files count as absent
            return False

    def write(self, **arrays: NDArray[np.generic]) -> None:
        """Write the arrays and their checksums, each file atomically, the checksums last."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            record = {"source": self.checksum}
            for name, array in arrays.items():
                _write(self._path(name), lambda file, array=array: np.lib.format.write_array(file, array))
                record[name] = _digest(array)
            text = json.dumps(record).encode()
            _write(self.folder / f"{self.name}.json", lambda file: file.write(text))
        except OSError as error:
            message = f"the decoded images cannot be kept in {shown(self.folder)} ({error.strerror or error})"
            if self.required:
                raise OSError(f"{message}; name another folder with --data.cache_dir") from error
            warnings.warn(f"{message}; every start decodes them again, unless --data.cache_dir is set", stacklevel=2)


def _digest(array: NDArray[np.generic]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).data.cast("B"), digest_size=16).hexdigest()


def _write(path: Path, write: Callable[..., object]) -> None:
    """Write a file next to the target, sync it, and rename it: the target is never half written."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
