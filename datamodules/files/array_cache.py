"""Arrays kept on disk beside checksums, for a fast second start."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class ArrayCache:
    """Arrays on disk, each valid as long as the listing and its own bytes have the checksums that stand beside them.

    Args:
        folder: where the files lie; made when it is missing.
        name: begins the file names.
        checksum: of what the arrays were made from.
        required: raise when the files can not be written, instead of a warning.
    """

    def __init__(self, folder: Path, name: str, checksum: str, required: bool) -> None:
        self.folder, self.name, self.checksum, self.required = folder, name, checksum, required

    def _path(self, array: str) -> Path:
        return self.folder / f"{self.name}.{array}.npy"

    def read(self, array: str, into: NDArray[np.generic]) -> bool:
        """Fill `into` from the disk; False if there is no valid array of its shape and type."""
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
        except (OSError, ValueError, KeyError, TypeError):  # missing, truncated or garbled: as if it were not there
            return False

    def write(self, **arrays: NDArray[np.generic]) -> None:
        """Write the arrays and their checksums, each file atomically, the checksums last.

        Raises:
            OSError: if that fails and the cache is required.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            record = {"source": self.checksum}
            for name, array in arrays.items():
                _write(self._path(name), lambda file, array=array: np.lib.format.write_array(file, array))
                record[name] = _digest(array)
            text = json.dumps(record).encode()
            _write(self.folder / f"{self.name}.json", lambda file: file.write(text))
        except OSError as error:
            message = f"the decoded images can not be kept in {self.folder} ({error.strerror or error})"
            if self.required:
                raise OSError(f"{message}; name another folder with --data.cache_dir") from error
            warnings.warn(f"{message}; every start decodes them again, unless --data.cache_dir is set", stacklevel=2)


def _digest(array: NDArray[np.generic]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).data.cast("B"), digest_size=16).hexdigest()


def _write(path: Path, write: Callable[..., object]) -> None:
    """Write beside the target, flush to the disk, and put it in place: the target is never half written."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
