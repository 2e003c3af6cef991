"""The default corpus of explain.py text: documents do not name their library, and its parts are separate."""

import re
from collections import Counter

import pytest

from _explain.docstrings import MAX_WORDS, MIN_WORDS, TEST, TRAIN, docstrings, sentences
from _explain.text_models import linear_svm, score_table, svd_svm

NAMES = r"\b(?:torch|pytorch|numpy|np|scipy|sklearn|scikit|matplotlib|onnx)"


@pytest.fixture(scope="module")
def corpus():
    return docstrings(0)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("add(x, y, *, out=None) -> Tensor\n\nAdds y to x.", ["adds to"]),
        ("Uses ``np.add`` and :func:`~torch.add` and `that` now.", ["uses and and now"]),
        ("Numpy's array, NumPy arrays, scikit-learn too: fine.", ["array arrays too", "fine"]),
        ("See torch.nn.Linear, array_like, float32, BatchNorm and C++.", ["see and"]),
        ("Sum.\n\nParameters\n----------\nx : array_like\n    The input.\n", ["sum"]),
        ("Sum.\n\nArgs:\n    input (Tensor): the input", ["sum"]),
        ("Sum.\n\n>>> f(1)\n\nAnd more.", ["sum", "and more"]),
        ("Sum.\n\nFor instance::\n\n    a line of things\n\n    more things\n\nThe end.", ["sum", "the end"]),
        ("Sum.\n\n.. math::\n    a = b\n\n.. versionadded:: 1.0\n    It was new.\n", ["sum"]),
        ("Computes :math:`a\n+ b` of it.", ["computes of it"]),
        ("", []),
    ],
)
def test_sentences(docstring, expected):
    assert sentences(docstring) == expected


def test_no_text_names_its_library(corpus):
    for text in [*corpus.texts, *corpus.texts_test]:
        assert not re.search(NAMES, text), text
        assert not re.search(r"[^a-z -]", text), text
        assert MIN_WORDS <= len(text.split()) <= MAX_WORDS
    assert corpus.classes == list(TRAIN) == list(TEST)


def test_no_set_phrase_identifies_a_library(corpus):
    for label in range(4):
        texts = [text for text, one in zip(corpus.texts, corpus.labels, strict=True) if one == label]
        ends = Counter(" ".join(text.split()[-8:]) for text in texts)
        assert ends.most_common(1)[0][1] <= 6, ends.most_common(1)


def test_classes_are_balanced_and_parts_are_separate(corpus):
    for labels in (corpus.labels, corpus.labels_test):
        counts = Counter(labels)
        assert sorted(counts) == [0, 1, 2, 3]
        assert len(set(counts.values())) == 1
        assert counts[0] >= 100
    texts = [*corpus.texts, *corpus.texts_test]
    assert len(set(texts)) == len(texts)
    modules = [set(" ".join(part.values()).split()) for part in (TRAIN, TEST)]
    packages = [{".".join(name.split(".")[:2]) for name in part} for part in modules]
    assert not packages[0] & packages[1]
    assert all(name in corpus.note for name in modules[1])


def test_the_seed_chooses_the_documents(corpus):
    assert docstrings(0).texts == corpus.texts
    assert set(docstrings(1).texts) != set(corpus.texts)


def test_both_models_clearly_beat_chance(corpus):
    scores = score_table({"linear": linear_svm(corpus, 0), "black box": svd_svm(corpus, 0)}, corpus)
    assert scores["most frequent class"]["accuracy"] == pytest.approx(0.25)
    for name in ("linear", "black box"):
        assert 0.45 < scores[name]["accuracy"] < 0.85
        assert 0.45 < scores[name]["macro F1"] < 0.85
