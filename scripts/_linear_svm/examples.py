"""The examples of two classes of any data module, as rows for a linear machine."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import SplitDataModule

Rows = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Pair(NamedTuple):
    """The examples of two classes."""

    x: Rows  # training rows [N, D]: pixels in [0, 1], or columns standardised by the training rows
    y: Labels  # class of each, an index of the data module's classes
    x_test: Rows
    y_test: Labels
    names: tuple[str, str]  # of the class with the lower index, and of the other
    shape: tuple[int, ...]  # of one example: (C, H, W), or (D,)
    columns: list[str]  # names of the columns; empty for images


def read_pair(data: pl.LightningDataModule, classes: Sequence[str]) -> Pair:
    """Read the examples of two classes, as they are stored: neither augmented nor shuffled.

    Those of a data module that is not this project's are the batches of its loaders.

    Args:
        data: The data module.
        classes: Two names of classes, or their numbers; empty for 5 and 8, or the first two of other names.

    Raises:
        ValueError: If these are not two classes of the data, or one has no example.
    """
    if isinstance(data, SplitDataModule):
        data.prepare_data()
        names, chosen = data.classes, choose(classes, data.classes)
        (x, y), (x_test, y_test) = (stored(data, part, chosen) for part in ("train", "test"))
    else:
        everything = {part: batches(data, part) for part in ("train", "test")}
        count = int(everything["train"][1].max()) + 1
        names = [str(name) for name in getattr(data, "classes", None) or range(count)]
        chosen = choose(classes, names)
        kept = ((values, labels, torch.isin(labels, torch.tensor(chosen))) for values, labels in everything.values())
        (x, y), (x_test, y_test) = ((values[keep], labels[keep]) for values, labels, keep in kept)
    for part, labels in (("training", y), ("test", y_test)):
        for one in chosen:
            if not (labels == one).any():
                raise ValueError(f"--classes: {names[one]} has no example in the {part} part")
    shape = tuple(x.shape[1:]) if x.ndim == 4 else (x[0].numel(),)
    rows, test_rows = scaled(x, x_test)
    columns = [] if len(shape) == 3 else column_names(data, shape[0])
    return Pair(rows, y.numpy(), test_rows, y_test.numpy(), (names[chosen[0]], names[chosen[1]]), shape, columns)


def choose(classes: Sequence[str], names: Sequence[str]) -> tuple[int, int]:
    """Return the indices of two classes, given by name or by number, in ascending order.

    Example:
        >>> choose(["8", "5"], list("0123456789")), choose(["cat", "0"], ["ant", "bee", "cat"]), choose([], ["a", "b"])
        ((5, 8), (0, 2), (0, 1))
    """
    wanted = list(classes) or (["5", "8"] if {"5", "8"} <= set(names) else list(names[:2]))
    places = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    unknown = [one for one in wanted if one not in places]
    known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if unknown or len({places[one] for one in wanted}) != 2 or len(wanted) != 2:
        raise ValueError(f"--classes must be two different classes of {known}; found {' '.join(wanted)}")
    first, second = sorted(places[one] for one in wanted)
    return first, second


def stored(data: SplitDataModule, part: Any, chosen: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return values and labels of a part, of the chosen classes."""
    labels = data.part_labels(part).cpu()
    keep = torch.isin(labels, torch.tensor(chosen))
    indices = data.part_indices(part).cpu()[keep]
    examples = data.read(part) or data.read("train")
    assert examples is not None  # of which only the test set may be a part of the training set
    values = examples[0]
    if isinstance(values, Dataset):
        return torch.stack([values[int(i)] for i in indices]), labels[keep]
    return values[indices], labels[keep]


def batches(data: Any, part: str) -> tuple[Tensor, Tensor]:
    """Return all batches of a loader, `(inputs, labels)` each, as one."""
    data.prepare_data()
    data.setup("fit" if part == "train" else part)
    pairs = [(inputs.cpu(), labels.cpu()) for inputs, labels in getattr(data, f"{part}_dataloader")()]
    return torch.cat([inputs for inputs, _ in pairs]), torch.cat([labels for _, labels in pairs])


def scaled(train: Tensor, test: Tensor) -> tuple[Rows, Rows]:
    """Return rows `[N, D]`: pixels divided by 255, columns standardised by the training rows, other images as they are.

    A constant column is 0.
    """
    rows, other = (one.flatten(1).double() for one in (train, test))
    if train.dtype == torch.uint8:
        rows, other = rows / 255, other / 255
    elif train.ndim == 2:
        mean, spread = rows.mean(0), rows.std(0, correction=0)
        spread[spread <= 1e-12 * mean.abs()] = torch.inf
        rows, other = (rows - mean) / spread, (other - mean) / spread
    return rows.numpy(), other.numpy()


def column_names(data: Any, width: int) -> list[str]:
    """Return the names of columns, from the data module's `features` if it has so many."""
    names = [str(name) for name in getattr(data, "features", None) or []]
    return names if len(names) == width else [f"column {i}" for i in range(width)]


def as_texts(words: Sequence[str]) -> list[str]:
    """Return the classes of `--classes 5 8`, `--classes '[5, 8]'` or `--classes 5,8`."""
    if len(words) == 1 and (words[0].startswith("[") or "," in words[0]):
        return [one.strip(" '\"") for one in words[0].strip("[]").split(",")]
    return list(words)
