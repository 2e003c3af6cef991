"""A fitted estimator as an npz file: arrays and one JSON text, nothing that is executed on loading."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .engine import OutputType, to_numpy

_FORMAT = 1
_MAX_RATIO = 8  # `write` packs nothing
_MAX_BYTES = 64 * 2**30


def write(path: str | os.PathLike[str], parameters: dict[str, Any], fitted: dict[str, Any], output: OutputType) -> None:
    """Write parameters and fitted attributes; the file appears complete or not at all."""
    target = Path(path)
    numbers = {name: value for name, value in fitted.items() if isinstance(value, int | float)}
    arrays: dict[str, Any] = {name: to_numpy(value) for name, value in fitted.items() if name not in numbers}
    if not isinstance(parameters["init"], str):
        arrays["init"] = to_numpy(parameters["init"])
        parameters = parameters | {"init": None}
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters = parameters | {"random_state": None}  # the state of a generator is not a parameter of the result
    about = {"format": _FORMAT, "parameters": parameters, "numbers": numbers, "kind": output._asdict()}
    arrays["about"] = np.array(json.dumps(about, default=lambda number: number.item()))  # a numpy number
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any], OutputType]:
    """Return the parameters, the fitted attributes (arrays in numpy) and the output type of a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            size, unpacked = os.path.getsize(path), sum(entry.file_size for entry in archive.infolist())
        if unpacked > min(_MAX_RATIO * size, _MAX_BYTES):
            raise ValueError(f"it unpacks from {size:,} to {unpacked:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != _FORMAT:
            raise ValueError(f"its format must be {_FORMAT}, found {about['format']}")
        if about["kind"]["dtype"] not in ("float64", "float32", "float16", "bfloat16"):
            raise ValueError(f"its type is {about['kind']['dtype']!r:.40}")
        parameters, fitted, output = about["parameters"], about["numbers"], OutputType(**about["kind"])
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a file that KMeans.save wrote: {error}") from error
    if parameters["init"] is None:
        parameters["init"] = arrays.pop("init")
    return parameters, fitted | arrays, output
