"""Corpora of documents to classify: 20 newsgroups, or a folder of texts."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.datasets import fetch_20newsgroups, load_files
from sklearn.model_selection import train_test_split

NEWSGROUPS = ("alt.atheism", "comp.graphics", "sci.med", "soc.religion.christian")
TEST_SHARE = 0.3


@dataclass(frozen=True)
class Corpus:
    """Documents and their classes.

    Attributes:
        name: Of the corpus.
        classes: K names.
        texts: To learn from.
        labels: Their classes, 0 to K - 1.
        texts_test: To test on.
        labels_test: Their classes.
        note: What else is to be said.
    """

    name: str
    classes: list[str]
    texts: list[str]
    labels: list[int]
    texts_test: list[str]
    labels_test: list[int]
    note: str = ""


def newsgroups(download_to: Path | None = None) -> Corpus:
    """Four of the 20 newsgroups, downloaded by scikit-learn if they are not there yet.

    Without headers and footers, which would tell the group.

    Raises:
        OSError: If they cannot be downloaded.
    """
    options: dict[str, Any] = {"categories": list(NEWSGROUPS), "remove": ("headers", "footers"), "random_state": 0}
    try:
        with warnings.catch_warnings(action="ignore"):  # each retry is a warning
            train = fetch_20newsgroups(data_home=download_to, subset="train", **options)
            test = fetch_20newsgroups(data_home=download_to, subset="test", **options)
    except Exception as error:  # urllib's, http's, a proxy's or a broken archive's
        reason = " ".join(str(error).split())[:200]
        raise OSError(
            f"20 newsgroups cannot be downloaded ({type(error).__name__}: {reason}); "
            "give a folder of texts by --corpus FOLDER, or leave --corpus out"
        ) from error
    return Corpus(
        "20 newsgroups",
        list(train.target_names),
        list(train.data),
        train.target.tolist(),
        list(test.data),
        test.target.tolist(),
    )


def folder(path: Path, seed: int) -> Corpus:
    """A folder ``<class>/*``, split here, or one with ``train/<class>/*`` and ``test/<class>/*``.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is not such a folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"--corpus: there is no folder {path}; give one, or 20newsgroups")
    if (path / "train").is_dir() and (path / "test").is_dir():
        classes, texts, labels = _read(path / "train")
        found, texts_test, labels_test = _read(path / "test")
        if found != classes:
            raise ValueError(
                f"{path}/train has the classes {', '.join(classes)}, {path}/test has {', '.join(found)}; "
                "they must be the same"
            )
        return Corpus(path.name, classes, texts, labels, texts_test, labels_test)
    classes, texts, labels = _read(path)
    if min(labels.count(label) for label in range(len(classes))) < 2:
        raise ValueError(f"a class of {path} has one text only, which cannot be split; add texts")
    parts = train_test_split(texts, labels, test_size=TEST_SHARE, random_state=seed, stratify=labels)
    return Corpus(path.name, classes, parts[0], parts[2], parts[1], parts[3])


def _read(path: Path) -> tuple[list[str], list[str], list[int]]:
    """Classes, texts and labels of a folder in the layout of ``sklearn.datasets.load_files``."""
    classes = sorted(one.name for one in path.iterdir() if one.is_dir())
    if len(classes) < 2:
        raise ValueError(f"{path} has {len(classes)} folders; a corpus has one folder of texts for each class")
    for name in classes:
        if not any(file.is_file() for file in (path / name).iterdir()):
            raise ValueError(f"{path / name} has no file; remove it or add texts")
    found = load_files(path, categories=classes, encoding="utf-8", decode_error="replace", shuffle=False)
    return list(found.target_names), list(found.data), found.target.tolist()
