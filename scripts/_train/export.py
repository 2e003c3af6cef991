"""Writing a trained network for use without this code."""

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_modules import ImageClassifier


def check_exporter() -> None:
    """Check before any training that PyTorch's ONNX exporter has the packages that it needs."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--export onnx needs {' and '.join(missing)}: pip install -e '.[export]' -c constraints.txt")


def export_onnx(model: ImageClassifier, path: Path, data: Any = None) -> None:
    """Write `model` (images in, logits out, any batch size) to `path`, whole or not at all.

    The file's metadata hold what a user of it needs, from the data module: `class_names` (JSON, in the order of the
    logits), `mean` and `std` (JSON, per channel in units of the full scale, or per column of a table), and `input`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    program = torch.onnx.export(
        model.eval().cpu(),
        (torch.zeros(2, *model.hparams["image_shape"]),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # it is None only without dynamo=True
    program.model.metadata_props.update(_metadata(model, data))
    program.save(partial)
    os.replace(partial, path)


def _metadata(model: ImageClassifier, data: Any) -> dict[str, str]:
    """Return what is known of the input and the classes, as texts."""
    shape = model.hparams["image_shape"]
    unit = "pixel / 255" if len(shape) == 3 else "value"
    names = {"class_names": "classes", "mean": "mean", "std": "std"}
    known = {key: getattr(data, name, None) for key, name in names.items()}
    found = {key: json.dumps(list(value), ensure_ascii=False) for key, value in known.items() if value is not None}
    scaled = f"({unit} - mean) / std" if {"mean", "std"} <= found.keys() else "as the data module gives it"
    return found | {"input": f"float32 {['N', *shape]}: {scaled}"}


def typed_export(words: Sequence[str]) -> bool:
    """Return whether `test` or `validate` shall write the network too, which its run's config.yaml does not decide."""
    return any(word.split("=")[0] == "--export" for word in words)
