"""Class names and normalisation of a network's training data, kept in every checkpoint as in an exported file."""

import math
from typing import Any

from pytorch_lightning import LightningModule

TEXTS, NUMBERS = ("classes",), ("mean", "std", "value_range")
SINGLE = {"image_size": int, "background": str, "reduced_decoding": bool}


class KnownData(LightningModule):
    """Keeps the class names and the normalisation of its training data, in checkpoints under `data_description`.

    Attributes:
        data_description: Those of the data module's attributes `classes`, `mean`, `std`, `image_size`, `background`,
            `value_range` and `reduced_decoding` that it has, as plain lists, texts and numbers. Empty before a training
            with a data module, and from a checkpoint of a version that did not write it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.data_description: dict[str, Any] = {}

    def on_fit_start(self) -> None:
        """Describe the data, which are set up."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.data_description = describe(data)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the description."""
        super().on_save_checkpoint(checkpoint)
        if self.data_description:
            checkpoint["data_description"] = self.data_description

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the description of a checkpoint, whoever wrote it."""
        super().on_load_checkpoint(checkpoint)
        if "data_description" in checkpoint:
            self.data_description = checked(checkpoint["data_description"])

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes in the order of the logits; None if they are not known."""
        names: list[str] | None = self.data_description.get("classes")
        return names if names is not None and len(names) == getattr(self, "num_classes", None) else None


def describe(data: Any) -> dict[str, Any]:
    """Return what is known of a data module's images and classes, as plain data.

    >>> from types import SimpleNamespace
    >>> describe(SimpleNamespace(classes=("cat", "dog"), mean=(0.5,), std=None))
    {'classes': ['cat', 'dog'], 'mean': [0.5]}
    """
    found = {name: getattr(data, name, None) for name in (*TEXTS, *NUMBERS, *SINGLE)}
    kinds: dict[str, Any] = {**dict.fromkeys(TEXTS, str), **dict.fromkeys(NUMBERS, float)}
    plain: dict[str, Any] = {}
    for name, value in found.items():
        if value is None:
            continue
        try:
            plain[name] = SINGLE[name](value) if name in SINGLE else [kinds[name](one) for one in value]
        except (TypeError, ValueError):  # somebody's own attribute of this name
            continue
    return plain


def checked(description: Any) -> dict[str, Any]:
    """Return a description that a file holds.

    Raises:
        ValueError: If it is not one.

    >>> checked({"classes": ["cat", 3]})
    Traceback (most recent call last):
    ValueError: the checkpoint is damaged: its data_description has a wrong entry 'classes', found ['cat', 3]
    """
    if not isinstance(description, dict):
        found = type(description).__name__
        raise ValueError(f"the checkpoint is damaged: its data_description must be a dict, found {found}")
    for name, value in description.items():
        if name in SINGLE:
            fits = type(value) is SINGLE[name]
        elif name in TEXTS:
            fits = isinstance(value, list) and all(type(one) is str for one in value)
        elif name in NUMBERS:
            fits = isinstance(value, list) and all(type(one) is float and math.isfinite(one) for one in value)
        else:
            continue  # of a later version
        if not fits:
            shown = repr(value)[:60]
            raise ValueError(
                f"the checkpoint is damaged: its data_description has a wrong entry {name!r}, found {shown}"
            )
    return {name: value for name, value in description.items() if name in (*TEXTS, *NUMBERS, *SINGLE)}
