"""Tables: scikit-learn's own, or a CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor

from ._checks import one_of, size
from .base import SplitDataModule
from .files.csv_table import read_csv
from .pipeline.batch import FlatBatch

Task = Literal["auto", "classification", "regression"]
MAX_CLASSES = 100  # numbers with more different values are taken for a quantity
TABLES = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}


class TabularDataModule(SplitDataModule):
    """One of scikit-learn's tables, or a CSV file: float32 `[N, D]`, standardised by the training part.

    Labels are int64 `[N]` for a class; for a number (regression) they are the numbers themselves, float32 `[N]`, and
    `num_classes` is 1. In a CSV file a column of words becomes one column of 0 and 1 for each word.

    Args:
        table: `"iris"`, `"wine"`, `"breast_cancer"`, `"digits"`, `"diabetes"`, or the path of a CSV file, absolute or
            below `data_dir`. The first line of the file is its header if it holds a word where the second has a number.
        target: column of a CSV file to predict, by name or number (-1 is the last).
        task: whether the target is a class or a number; `"auto"` takes the target for a number if one of its values is
            not whole, or if it has more than 100 different values.
        missing: what to do about an empty cell or `NA` in a CSV file: `"error"`, or `"mean"` of the training part.
        test_size: test examples, a count or a fraction of all.
        val_size: validation examples, a count or a fraction of all; 0 or None is no validation part.
        **options: see `SplitDataModule`.

    Raises:
        FileNotFoundError: if there is no such table.
        ValueError: if an option is out of its range, or the file is not a table of numbers.

    >>> data = TabularDataModule(table="wine", batch_size=16)
    >>> data.setup()
    >>> rows, labels = next(iter(data.train_dataloader()))
    >>> rows.shape, data.num_classes, data.classes
    (torch.Size([16, 13]), 3, ['class_0', 'class_1', 'class_2'])
    """

    def __init__(
        self,
        *,
        table: str = "iris",
        target: str | int = -1,
        task: Task = "auto",
        missing: Literal["error", "mean"] = "error",
        test_size: int | float = 0.2,
        val_size: int | float | None = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(val_size=val_size, **options)
        self.test_size = size("test_size", test_size)
        self.table, self.target = table, target
        one_of("task", task, ("auto", "classification", "regression"))
        one_of("missing", missing, ("error", "mean"))
        self._target: NDArray[Any]
        rows, values, names = self._sklearn() if table in TABLES else self._csv(missing)
        self._rows = rows
        if task == "auto":
            is_number = values.dtype.kind == "f" and ((values % 1 != 0).any() or len(np.unique(values)) > MAX_CLASSES)
            task = "regression" if is_number else "classification"
        self.task = task
        if task == "regression":
            if values.dtype.kind not in "if":
                raise ValueError(f"the target {target!r} of {table} is not a number; use task classification")
            self.classes, self._target = [], values.astype(np.float32)
        else:
            if values.dtype.kind == "f" and (values % 1 == 0).all():
                values = values.astype(np.int64)
            levels, self._target = np.unique(values, return_inverse=True)
            self.classes = names or [str(level) for level in levels.tolist()]
            if len(levels) > len(values) / 2:
                raise ValueError(f"{len(values)} rows of {table} have {len(levels)} classes; use task regression")
        self.num_classes = max(1, len(self.classes))
        self.image_shape = (rows.shape[1],)

    def read(self, part: Literal["train", "test"]) -> tuple[Tensor, Tensor] | None:
        """Return all rows, float32 `[N, D]`, and labels as the training set; None for the test set."""
        if part == "test":
            return None
        self._split()  # fills missing cells with means of the training part
        return torch.from_numpy(self._rows).float(), self.labels()

    def labels(self) -> Tensor:
        """Return the labels of all rows."""
        return torch.from_numpy(self._target)

    def statistics(self, train: Tensor) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation per column, after filling missing cells with the mean."""
        rows = self._rows[train.numpy()]
        empty = np.isnan(rows).all(0)
        if empty.any():
            raise ValueError(
                f"column {int(empty.argmax())} of {self.table} has no value in the training part; remove it"
            )
        mean = np.nanmean(rows, axis=0)
        self._rows = np.where(np.isnan(self._rows), mean, self._rows)
        return mean.tolist(), self._rows[train.numpy()].std(0).tolist()

    def batch_maker(self, training: bool) -> FlatBatch:
        """Return a `FlatBatch`."""
        assert self.mean is not None  # since the split is made
        assert self.std is not None
        return FlatBatch(self.mean, self.std)

    def _sklearn(self) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
        bunch = TABLES[self.table]()
        return bunch.data, bunch.target, [str(name) for name in bunch.get("target_names", [])]

    def _csv(self, missing: str) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
        path = Path(self.table)
        if not path.is_file():
            path = Path(self.data_dir) / self.table
        if not path.is_file():
            known = ", ".join(TABLES)
            raise FileNotFoundError(f"there is no table {self.table!r}: it is neither one of {known} nor a file {path}")
        rows, values = read_csv(path, self.target, missing == "mean")
        return rows, values, []
