"""Writing a trained network for use without this code."""

import importlib.util
import os
from pathlib import Path

import torch

from lightning_modules import ImageClassifier


def check_exporter() -> None:
    """Check before any training that PyTorch's ONNX exporter has the packages that it needs."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--export onnx needs {' and '.join(missing)}: pip install -e '.[export]' -c constraints.txt")


def export_onnx(model: ImageClassifier, path: Path) -> None:
    """Write `model` (images in, logits out, any batch size) to `path`, whole or not at all."""
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
    program.save(partial)
    os.replace(partial, path)
