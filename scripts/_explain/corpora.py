"""Text corpora for `explain.py text`: 20 newsgroups, or a folder of text files."""

import warnings
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.datasets import fetch_20newsgroups
from sklearn.model_selection import train_test_split

from _common.console import say
from datamodules.files.folders import LeftOut, is_hidden, leads_up, walk

NEWSGROUPS = ["alt.atheism", "comp.graphics", "sci.med", "soc.religion.christian"]


@dataclass(frozen=True)
class Corpus:
    """Documents with their classes, split into a training and a test part."""

    name: str
    classes: list[str]  # K names
    texts: list[str]  # for training
    labels: list[int]  # their classes, 0 to K - 1
    texts_test: list[str]
    labels_test: list[int]
    note: str = ""  # a remark for the page


def newsgroups() -> Corpus:
    """Load four of the 20 newsgroups, which scikit-learn downloads once.

    Headers and footers are removed, since they name the group.
    """
    options: dict[str, Any] = {"categories": NEWSGROUPS, "remove": ("headers", "footers"), "random_state": 0}
    try:
        with warnings.catch_warnings(action="ignore"):  # one for each retry
            train, test = (fetch_20newsgroups(subset=part, **options) for part in ("train", "test"))
    except Exception as error:  # of urllib, http, a proxy or a broken archive
        reason = " ".join(str(error).split())[:200]
        raise OSError(
            f"20 newsgroups cannot be downloaded ({type(error).__name__}: {reason}); "
            "give a folder of texts by --corpus FOLDER, or leave --corpus out"
        ) from error
    parts = (train.data, train.target.tolist(), test.data, test.target.tolist())
    return Corpus("20 newsgroups", train.target_names, *parts)


def folder(path: Path, seed: int) -> Corpus:
    """Load `train/<class>/*` and `test/<class>/*`, or `<class>/*`, which is split by the seed."""
    if not path.is_dir():
        raise FileNotFoundError(f"--corpus: there is no folder {path}; give one, or 20newsgroups")
    if (path / "train").is_dir() and (path / "test").is_dir():
        classes, texts, labels = _read(path / "train")
        test_classes, texts_test, labels_test = _read(path / "test")
        if test_classes != classes:
            raise ValueError(
                f"the classes of {path}/train and {path}/test must be the same, "
                f"found {', '.join(classes)} and {', '.join(test_classes)}"
            )
        return Corpus(path.name, classes, texts, labels, texts_test, labels_test)
    classes, texts, labels = _read(path)
    if min(labels.count(label) for label in range(len(classes))) < 2:
        raise ValueError(f"a class of {path} has one text only, which cannot be split; add texts")
    texts, texts_test, labels, labels_test = train_test_split(
        texts, labels, test_size=0.3, random_state=seed, stratify=labels
    )
    return Corpus(path.name, classes, texts, labels, texts_test, labels_test)


def _read(path: Path) -> tuple[list[str], list[str], list[int]]:
    """Return classes, texts and labels of a folder of folders of texts, and say what is left out.

    Hidden files and folders are left out at every depth, and files that hold no text.
    """
    left_out = LeftOut()
    classes: list[str] = []
    for child in sorted(path.iterdir()):
        if is_hidden(child.name):
            left_out.add("hidden", str(child))
        elif not child.is_dir():
            left_out.add("in no class folder", str(child))
        elif child.is_symlink() and leads_up(str(child)):
            left_out.add("a link to a folder above it", str(child))
        else:
            classes.append(child.name)
    if len(classes) < 2:
        raise ValueError(f"{path} has {len(classes)} folders; a corpus has one folder of texts for each class")
    texts: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = [Path(file) for file, _, _ in walk(str(path / name), lambda file: True, "a text", left_out)]
        contents = {file: _text(file.read_bytes()) for file in files}
        found = [text for text in contents.values() if text is not None]
        for file in (file for file, text in contents.items() if text is None):
            left_out.add("not a text", str(file))
        if not found:
            raise ValueError(
                f"{path / name} has no file; remove it or add texts{f' ({left_out})' * bool(left_out.paths)}"
            )
        texts += found
        labels += [label] * len(found)
    say(f"{path}: used {len(texts):,} texts of {len(classes)} classes{', ' * bool(left_out.paths)}{left_out}")
    return classes, texts, labels


def _text(content: bytes) -> str | None:
    """Return a file as text, by its byte-order mark or as UTF-8; None for a file that is no text."""
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    return None if b"\0" in content else content.decode("utf-8-sig", errors="replace")
