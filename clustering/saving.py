"""A fitted estimator as an npz file: arrays and one text of JSON, nothing that runs when it is read."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .engine.data import Kind, plain

_FORMAT = 1


def write(path: str | os.PathLike[str], parameters: dict[str, Any], fitted: dict[str, Any], kind: Kind) -> None:
    """Write parameters and fitted attributes, whole or not at all."""
    target = Path(path)
    arrays: dict[str, Any] = {
        name: plain(value) for name, value in fitted.items() if not isinstance(value, int | float)
    }
    numbers = {name: value for name, value in fitted.items() if isinstance(value, int | float)}
    if not isinstance(parameters["init"], str):
        arrays["init"] = plain(parameters["init"])
        parameters = parameters | {"init": None}
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters = parameters | {"random_state": None}  # a generator's state is no parameter of the result
    about = {"format": _FORMAT, "parameters": parameters, "numbers": numbers, "kind": kind._asdict()}
    arrays["about"] = np.array(json.dumps(about, default=_number))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any], Kind]:
    """Parameters, fitted attributes (arrays as numpy's) and kind.

    Raises:
        ValueError: If the file is not one that :func:`write` wrote.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']}")
        parameters, fitted, kind = about["parameters"], about["numbers"], Kind(**about["kind"])
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a file that KMeans.save wrote: {error}") from error
    if parameters["init"] is None:
        parameters["init"] = arrays.pop("init")
    return parameters, fitted | arrays, kind


def _number(value: Any) -> int | float:
    """What JSON does not know: numpy's numbers."""
    number: int | float = value.item()
    return number
