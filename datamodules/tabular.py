"""Tables: scikit-learn's own, or a CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._checks import one_of, own_path, size
from .base import SplitDataModule
from .files.csv_columns import Text
from .files.csv_table import read_table
from .files.image_listing import similar_names
from .files.messages import say, shown
from .pipeline.batch import FlatBatch

MAX_CLASSES = 100  # a column of numbers with more distinct values counts as a quantity, not as classes
TABLES = ("iris", "wine", "breast_cancer", "digits", "diabetes")


class TabularDataModule(SplitDataModule):
    """One of scikit-learn's tables, or a CSV file: float32 `[N, D]`, standardised by the training part.

    A CSV file may be separated by commas, semicolons, tabs or pipes, have decimal commas and a byte-order mark. A
    column of words becomes one 0/1 column per word. One line says what was read and what was left out; what has two
    meanings is refused with the option that decides.

    Args:
        table: `"iris"`, `"wine"`, `"breast_cancer"`, `"digits"`, or the path of a CSV file, absolute or relative to
            `data_dir`.
        target: Column of a CSV file with the class, by name or number (-1 is the last).
        task: `"classification"`: every distinct value of the target is a class. `"auto"`: a target of numbers is
            refused as a quantity if one of them is not whole, or if it has more than 100 distinct values.
        missing: How to treat an empty cell, `NA` or `?` in a CSV file: `"error"`, or `"mean"` of the training part.
        header: Whether the first line of the file holds names. None: if it has a word where the others have numbers.
        drop: Columns to leave out, by name or number: a list, or one text with commas between them.
        text: Columns of words: `"auto"` makes a 0/1 column of each word, and refuses dates, and words that differ in
            most rows, such as names; `"onehot"` takes those too; `"drop"` leaves all of them out.
        separator: A character, or comma, semicolon, tab, pipe or space. None: found in the file.
        decimal: Decimal mark, a point or a comma. None: found in the file.
        encoding: Encoding of the file. None: by its byte-order mark, or UTF-8.
        test_size: Test examples, a count or a fraction of all.
        **options: See `SplitDataModule`.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If an option is out of range, the file is not a table of numbers, or the target is a quantity.

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
        task: Literal["auto", "classification"] = "auto",
        missing: Literal["error", "mean"] = "error",
        header: bool | None = None,
        drop: list[str] | str = "",
        text: Text = "auto",
        separator: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        test_size: int | float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.test_size = size("test_size", test_size)
        self.table, self.target = table, target
        one_of("task", task, ("auto", "classification"))
        one_of("missing", missing, ("error", "mean"))
        one_of("text", text, ("auto", "onehot", "drop"))
        reading: dict[str, Any] = {"separator": separator, "decimal": decimal, "encoding": encoding, "header": header}
        # Read here: the network needs the number of classes and columns.
        if table in TABLES:
            given = [name for name, value in (reading | {"drop": drop or None}).items() if value is not None]
            if given:
                raise ValueError(f"{given[0]} describes a CSV file, found the table {table}; leave it out")
            self._rows, values, names = self._sklearn()
        else:
            self._rows, values, names = self._csv(missing, drop=drop, text=text, **reading)
        if task == "auto" and _is_quantity(values):
            raise ValueError(
                f"the target of {table} is a quantity, not a class: TabularDataModule trains classifiers; "
                "choose another target, or set task to classification"
            )
        if values.dtype.kind == "f" and (values % 1 == 0).all():
            values = values.astype(np.int64)
        levels, self._target = np.unique(values, return_inverse=True)
        if len(levels) < 2:
            raise ValueError(f"the target of {table} has one value only, {levels[0]}; choose another by target")
        if len(levels) > len(values) / 2:
            raise ValueError(f"{len(values)} rows of {table} have {len(levels)} classes; choose another target")
        self.classes = names or [str(level) for level in levels.tolist()]
        if similar := similar_names(self.classes):
            say(f"{shown(table)}: the classes {', '.join(map(shown, similar[:4]))} differ by case only")
        self.num_classes = len(self.classes)
        self.image_shape = (self._rows.shape[1],)

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
                f"column {self.features[int(empty.argmax())]!r} of {self.table} has no value in the training part; "
                "leave it out by --data.drop"
            )
        mean = np.nanmean(rows, axis=0)
        self._rows = np.where(np.isnan(self._rows), mean, self._rows)
        return mean.tolist(), self._rows[train.numpy()].std(0).tolist()

    def batch_maker(self, training: bool) -> FlatBatch:
        """Return a `FlatBatch`."""
        assert self.mean is not None  # set by the split
        assert self.std is not None
        return FlatBatch(self.mean, self.std)

    def _sklearn(self) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
        from sklearn import datasets  # takes a second, and a CSV file does not need it

        bunch = getattr(datasets, f"load_{self.table}")()
        self.features = [str(name) for name in bunch.feature_names]
        return bunch.data, bunch.target, [str(name) for name in bunch.get("target_names", [])]

    def _csv(self, missing: str, **reading: Any) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
        path = Path(own_path(self.table))
        if not path.is_file():
            path = Path(self.data_dir) / self.table
        if not path.is_file():
            known = ", ".join(TABLES)
            raise FileNotFoundError(f"there is no table {self.table!r}: it is neither one of {known} nor a file {path}")
        content = read_table(path, self.target, missing == "mean", **reading)
        self.features = content.names
        return content.features, content.target, []


def _is_quantity(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((values % 1 != 0).any() or len(np.unique(values)) > MAX_CLASSES)
