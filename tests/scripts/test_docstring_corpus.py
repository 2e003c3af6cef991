"""Docstrings as a corpus: what gives the library away is out."""

import re
from collections import Counter

import pytest

from _explain.docstring_corpus import NAMESPACES, docstrings
from _explain.docstring_text import prose
from _explain.text_models import linear_svm, score_table

NAMES = r"\b(?:torch|pytorch|numpy|np|scipy|sklearn|scikit|matplotlib|onnx)"


@pytest.fixture(scope="module")
def corpus():
    return docstrings(0)


@pytest.mark.parametrize(
    ("docstring", "left"),
    [
        ("add(x, y, *, out=None) -> Tensor\n\nAdds y to x.", "adds y to x"),
        ("Uses ``np.add`` and :func:`~torch.add` and `that` now.", "uses and and now"),
        ("PyTorch's and NumPy arrays, scikit-learn too.", "and arrays too"),
        ("See torch.nn.Linear, array_like, float32, BatchNorm and C++.", "see and c"),
        ("Parameters\n----------\nx : array_like, shape (n,)\n    The input.\n", "the input"),
        (
            "Args:\n    input (Tensor): the input tensor\n    dim (int, optional): the dimension",
            "the input tensor the dimension",
        ),
        ("Sum.\n\nExamples\n--------\n>>> f(1)\narray of things\n\nAnd more.", "sum and more"),
        ("Sum.\n\nExample::\n\n    >>> f(1)\n    things\n\n    more things\n\nThe end.", "sum the end"),
        ("Sum.\n\n.. math::\n    a = b\n\n.. note:: Be careful.", "sum be careful"),
        ("Sum.\n\n.. versionadded:: 1.0\n    It was new.\n\nRead more in the :ref:`User Guide <guide>`.", "sum"),
        ("Computes :math:`a\n+ b` of it.", "computes of it"),
        ("", ""),
    ],
)
def test_prose(docstring, left):
    assert prose(docstring) == left


def test_nothing_gives_the_library_away(corpus):
    for text in [*corpus.texts, *corpus.texts_test]:
        assert not re.search(NAMES, text), text
        assert not re.search(r"[A-Z_\d`.:>(){}\[\]=\\]", text), text
        assert 15 <= len(text.split()) <= 200
    assert corpus.classes == list(NAMESPACES)


def test_no_set_phrase_of_a_library_is_left(corpus):
    for label in range(4):
        texts = [text for text, one in zip(corpus.texts, corpus.labels, strict=True) if one == label]
        starts = Counter(" ".join(text.split()[-8:]) for text in texts)
        assert starts.most_common(1)[0][1] <= 4, starts.most_common(1)


def test_classes_are_balanced_and_parts_are_apart(corpus):
    for labels in (corpus.labels, corpus.labels_test):
        counts = Counter(labels)
        assert sorted(counts) == [0, 1, 2, 3]
        assert len(set(counts.values())) == 1
        assert counts[0] > 100
    assert not set(corpus.texts) & set(corpus.texts_test)
    assert 0.2 < len(corpus.texts_test) / len(corpus.texts) < 0.7


def test_the_split_is_by_module(corpus):
    modules = corpus.note.partition(": ")[2].split(", ")
    assert {name.partition(".")[0] for name in modules} == {"torch", "numpy", "sklearn", "scipy"}
    assert all(name.count(".") <= 1 for name in modules)


def test_it_can_be_learned_but_not_too_well(corpus):
    scores = score_table({"linear": linear_svm(corpus, 0)}, corpus)
    assert scores["most frequent class"]["accuracy"] == pytest.approx(0.25)
    assert 0.5 < scores["linear"]["macro F1"] < 0.85
