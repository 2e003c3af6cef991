"""The tables of `explain.py tabular`: two of scikit-learn's, or a CSV file."""

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
    """A table, split into a training and a test part; without classes it is for regression."""

    name: str
    target_name: str
    features: list[str]  # D names
    classes: list[str]  # K names, or none
    X: Array  # float64 [N, D]
    y: Array  # [N], float64 values or int64 classes
    X_test: Array
    y_test: Array


def default_tables(test_size: float, seed: int) -> list[Table]:
    """Return scikit-learn's diabetes (regression) and breast cancer (classification)."""
    return [
        _split("diabetes", "progression", datasets.load_diabetes(scaled=False), test_size, seed),
        _split("breast cancer", "diagnosis", datasets.load_breast_cancer(), test_size, seed),
    ]


def csv_table(
    path: Path,
    target: str,
    names: str | None,
    no_header: bool,
    task: Task,
    missing: str,
    test_size: float,
    seed: int,
    **reading: Any,
) -> Table:
    """Read a CSV file and split its rows; missing values become the means of the training part.

    The parameters are options of `explain.py tabular`; `reading` is for `read_table`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--csv: there is no file {path}")
    given = [name.strip() for name in names.split(",")] if names else []
    header = False if no_header else None
    content = read_table(path, target, missing == "mean", header, given, prefix="--", **reading)
    twice = [name for name in content.names if content.names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}; name them by --feature-names")
    y, classes = _target(content.target, task, path)
    bunch = {"feature_names": content.names, "target_names": classes, "data": content.features, "target": y}
    table = _split(path.stem, content.target_name, bunch, test_size, seed)
    empty = np.isnan(table.X).all(axis=0)
    if empty.any():
        name = table.features[int(empty.argmax())]
        raise ValueError(f"column {name!r} of {path} has no value in the training part; leave it out by --drop")
    mean = np.nanmean(table.X, axis=0)
    for rows in (table.X, table.X_test):
        np.copyto(rows, mean, where=np.isnan(rows))
    return table


def _target(values: Array, task: Task, path: Path) -> tuple[Array, list[str]]:
    """Return the targets as numbers, and the class names."""
    is_number = values.dtype.kind == "f"
    if task == "auto":
        continuous = is_number and (bool((values % 1 != 0).any()) or len(np.unique(values)) > MAX_CLASSES)
        task = "regression" if continuous else "classification"
    if task == "regression":
        if not is_number:
            raise ValueError(f"the target of {path} is not a number but {values[0]!r}; use --task classification")
        return values, []
    if is_number and bool((values % 1 == 0).all()):
        values = values.astype(np.int64)
    levels, y, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(levels) < 2:
        raise ValueError(f"the target of {path} has one value only, {levels[0]}; choose another by --target")
    if counts.min() < 2:
        rare = levels[int(counts.argmin())]
        raise ValueError(
            f"class {rare} of {path} has one row, which cannot be split; remove it or use --task regression"
        )
    return y, [str(level) for level in levels.tolist()]


def _split(name: str, target_name: str, bunch: Any, test_size: float, seed: int) -> Table:
    """Split a table in the form of scikit-learn's data sets; both parts have the same share of each class."""
    features, classes = ([str(one) for one in bunch.get(key, [])] for key in ("feature_names", "target_names"))
    X, y = bunch["data"], bunch["target"]
    options = {"test_size": test_size, "random_state": seed, "stratify": y if classes else None}
    X, X_test, y, y_test = train_test_split(X, y, **options)
    return Table(name, target_name, features, classes, X, y, X_test, y_test)
