"""The tables that ``explain.py tabular`` learns from: two of scikit-learn's, or a CSV file."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn import datasets
from sklearn.model_selection import train_test_split

from datamodules.files.csv_table import read_table
from datamodules.tabular import MAX_CLASSES

Array = npt.NDArray[Any]
Task = Literal["auto", "classification", "regression"]


@dataclass(frozen=True)
class Table:
    """A table, split for training and testing.

    Attributes:
        name: Of the table.
        target_name: Of what is predicted.
        features: D names.
        classes: K names; none for regression.
        X: Training rows, float64 ``[N, D]``.
        y: Training targets ``[N]``: float64, or int64 classes.
        X_test: Test rows.
        y_test: Test targets.
    """

    name: str
    target_name: str
    features: list[str]
    classes: list[str]
    X: Array
    y: Array
    X_test: Array
    y_test: Array

    @property
    def is_regression(self) -> bool:
        """Whether the target is a number."""
        return not self.classes


def default_tables(test_size: float, seed: int) -> list[Table]:
    """scikit-learn's diabetes (regression) and breast cancer (classification)."""
    first = datasets.load_diabetes(scaled=False)
    second = datasets.load_breast_cancer()
    return [
        _split("diabetes", "progression", list(first.feature_names), [], first.data, first.target, test_size, seed),
        _split(
            "breast cancer",
            "diagnosis",
            [str(name) for name in second.feature_names],
            [str(name) for name in second.target_names],
            second.data,
            second.target,
            test_size,
            seed,
        ),
    ]


def csv_table(
    path: Path,
    target: str | int,
    names: str | None,
    no_header: bool,
    task: Task,
    missing: str,
    test_size: float,
    seed: int,
) -> Table:
    """A CSV file as a table.

    Args:
        path: The file.
        target: Name or number of the target's column.
        names: Names separated by commas: of all columns, or of all but the target.
        no_header: The first line holds values too.
        task: What the target is; ``auto`` takes it for a number if a value is not whole, or more than 100 differ.
        missing: ``error``, or ``mean`` for the training part's mean.
        test_size: Share of the test part.
        seed: Of the split.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--csv: there is no file {path}")
    given = [name.strip() for name in names.split(",")] if names else []
    found = read_table(path, target, missing == "mean", header=False if no_header else None, names=given)
    twice = [name for name, times in Counter(found.names).items() if times > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}; name them by --feature-names")
    y, classes = _target(found.target, task, path)
    table = _split(path.stem, found.target_name, found.names, classes, found.features, y, test_size, seed)
    _fill(table)
    return table


def _target(values: Array, task: Task, path: Path) -> tuple[Array, list[str]]:
    """The targets as numbers, and the names of the classes."""
    is_number = values.dtype.kind == "f"
    if task == "auto":
        many = is_number and (bool((values % 1 != 0).any()) or len(np.unique(values)) > MAX_CLASSES)
        task = "regression" if many else "classification"
    if task == "regression":
        if not is_number:
            raise ValueError(f"the target of {path} is not a number but {values[0]!r}; use --task classification")
        return values, []
    if is_number and bool((values % 1 == 0).all()):
        values = values.astype(np.int64)
    levels, y = np.unique(values, return_inverse=True)
    if len(levels) < 2:
        raise ValueError(f"the target of {path} has one value only, {levels[0]}; choose another by --target")
    if np.bincount(y).min() < 2:
        rare = levels[int(np.bincount(y).argmin())]
        raise ValueError(
            f"class {rare} of {path} has one row, which cannot be split; remove it or use --task regression"
        )
    return y, [str(level) for level in levels.tolist()]


def _split(
    name: str, target: str, features: list[str], classes: list[str], X: Array, y: Array, test_size: float, seed: int
) -> Table:
    """Split off the test part, with the same share of each class."""
    stratify = y if classes else None
    rows, rows_test, truth, truth_test = train_test_split(
        X, y, test_size=test_size, random_state=seed, stratify=stratify
    )
    return Table(name, target, features, classes, rows, truth, rows_test, truth_test)


def _fill(table: Table) -> None:
    """Put the training part's means for what is missing, in place."""
    empty = np.isnan(table.X).all(axis=0)
    if empty.any():
        name = table.features[int(empty.argmax())]
        raise ValueError(f"column {name!r} of {table.name} has no value in the training part; remove it")
    mean = np.nanmean(table.X, axis=0)
    for rows in (table.X, table.X_test):
        np.copyto(rows, mean, where=np.isnan(rows))
