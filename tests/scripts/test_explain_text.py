"""scripts/explain.py text."""

import functools
import json
import operator
import os
import tarfile
from pathlib import Path
from urllib.error import URLError

import eli5
import numpy as np
import pytest
from PIL import Image
from sklearn.utils import Bunch

import explain
from _explain import corpora, text_models
from _explain.text_models import agreement, class_words, exact_words, linear_svm, local_model, svd_svm

NEWS = Path(os.environ.get("DATA_DIR", "data")) / "20news-4.tar.gz"
FILLER = [f"{a}{b}{c}" for a in "bdfk" for b in "aeou" for c in ("lm", "rt", "nd")]
PLANTED = {"animals": ["zebra", "giraffe"], "colours": ["crimson", "turquoise"], "tools": ["hammer", "chisel"]}


def write(folder, classes, count=40, seed=0):
    """Write texts of random words, each with a word of its class, and sometimes one of another class."""
    chance = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            words = [str(word) for word in chance.choice(FILLER, 30)]
            words[int(chance.integers(30))] = str(chance.choice(PLANTED[name]))
            if chance.random() < 0.2:
                words[0] = str(chance.choice(PLANTED[str(chance.choice(classes))]))
            (folder / name / f"{number:03}.txt").write_text(" ".join(words))
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write(tmp_path_factory.mktemp("texts") / "things", list(PLANTED))


@pytest.fixture(scope="module")
def corpus(texts):
    return corpora.folder(texts, 0)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def results(texts, output):
    words = ["text", "--corpus", str(texts), "--documents", "3", "--samples", "600", "--output", str(output)]
    return explain.main(words)


def test_planted_words_are_found(output, results):
    assert json.loads((output / "results.json").read_text()) == results
    assert results["classes"] == list(PLANTED)
    assert results["train"] + results["test"] == 120
    for name, words in PLANTED.items():
        assert set(list(results["class_words"][name])[:2]) == set(words)
    assert results["scores"]["linear SVM"]["accuracy"] > 0.8
    assert results["scores"]["most frequent class"]["accuracy"] == pytest.approx(1 / 3, abs=0.02)


def test_documents_are_explained_by_their_planted_words(results):
    assert len(results["documents"]) == 3
    for document in results["documents"]:
        own = {word for word in document["text"].split() if word in PLANTED[document["explained"]]}
        assert own
        assert max(document["exact"], key=document["exact"].get) in own
        assert document["predictions"]["linear SVM"] == document["explained"]
        weights = document["local"]["linear SVM"]["words"][document["explained"]]
        assert max((word for word in weights if word != "<BIAS>"), key=weights.get) in own
        for local in document["local"].values():
            assert 0 <= local["mean_KL_divergence"] < 1
            assert 0.4 < local["score"] <= 1
        assert document["local"]["linear SVM"]["agreement"] > 0.7
        assert sum(document["probabilities"]["SVD + SVM"].values()) == pytest.approx(1)


def test_exact_words_sum_to_the_score(corpus):
    model = linear_svm(corpus, 0)
    machine = text_models.inner_svm(model)
    for text in corpus.texts_test[:6]:
        scores = machine.decision_function(model[0].transform([text]))[0]
        for label in range(3):
            words, score, _ = exact_words(model, text, corpus.classes, label)
            assert score == pytest.approx(scores[label])
            assert sum(words.values()) == pytest.approx(score)


def test_two_classes(tmp_path):
    two = corpora.folder(write(tmp_path / "two", ["animals", "tools"]), 0)
    model = linear_svm(two, 0)
    result, _ = class_words(model, two.classes, 2)
    assert {name: set(words) for name, words in result.items()} == {n: set(PLANTED[n]) for n in ("animals", "tools")}
    assert all(weight > 0 for words in result.values() for weight in words.values())
    text = two.texts_test[0]
    (score,) = text_models.inner_svm(model).decision_function(model[0].transform([text]))
    for label, sign in ((0, -1), (1, 1)):
        words, own, _ = exact_words(model, text, two.classes, label)
        assert own == pytest.approx(sign * score)
        assert sum(words.values()) == pytest.approx(own)
    label = two.labels_test[0]
    local = local_model(model, text, two.classes, label, samples=400, seed=0)
    assert set(local.words) == {"animals", "tools"}
    weights = local.words[two.classes[label]]
    assert max((word for word in weights if word != "<BIAS>"), key=weights.get) in PLANTED[two.classes[label]]


def test_eli5_alone_does_not_explain_a_pipeline(corpus):
    model = linear_svm(corpus, 0)
    assert "not supported" in eli5.explain_prediction(model, corpus.texts_test[0]).error
    assert "not supported" in eli5.explain_weights(model[-1]).error  # CalibratedClassifierCV


def test_the_local_model_is_reproducible_and_its_fidelity_is_judged(corpus):
    model = svd_svm(corpus, 0)
    result = local_model(model, corpus.texts_test[0], corpus.classes, 0, samples=600, seed=0)
    again = local_model(model, corpus.texts_test[0], corpus.classes, 0, samples=600, seed=0)
    assert (result.divergence, result.words) == (again.divergence, again.words)
    poor = text_models.LocalModel(0.3, 0.95, {}, result.explanation)
    assert "poor (mean KL divergence 0.300, at most 0.15 is good; score 0.950" in poor.warning
    assert text_models.LocalModel(0.05, 0.8, {}, result.explanation).warning
    assert text_models.LocalModel(0.05, 0.95, {}, result.explanation).warning == ""


@pytest.mark.slow
def test_a_poor_local_model_causes_a_warning(texts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_models, "MIN_SCORE", 1.1)
    words = ["text", "--corpus", str(texts), "--documents", "1", "--samples", "100", "--output", str(tmp_path)]
    results = explain.main(words)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("warning: ") and "do not trust its words" in line]) == 2
    assert all(local["warning"] for local in results["documents"][0]["local"].values())
    assert (tmp_path / "text.html").read_text().count('<p class="warning">') == 2


def test_agreement():
    assert agreement({"a": 1.0, "b": -1.0, "<BIAS>": 5}, {"a": 2.0, "b": -2.0}) == pytest.approx(1)
    assert agreement({"a": 1.0}, {"b": 1.0}) == pytest.approx(-1)
    assert np.isnan(agreement({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}))


def test_train_and_test_folders(tmp_path):
    write(tmp_path / "all" / "train", list(PLANTED), 12)
    write(tmp_path / "all" / "test", list(PLANTED), 5, seed=1)
    result = corpora.folder(tmp_path / "all", 0)
    assert (len(result.texts), len(result.texts_test)) == (36, 15)
    assert result.labels_test == [0] * 5 + [1] * 5 + [2] * 5


def test_newsgroups_are_four_without_headers(monkeypatch):
    requests = []

    def fetch(**options):
        requests.append(options)
        return Bunch(data=["a", "b"], target=np.array([0, 1]), target_names=["x", "y"])

    monkeypatch.setattr(corpora, "fetch_20newsgroups", fetch)
    result = corpora.newsgroups()
    assert [one["subset"] for one in requests] == ["train", "test"]
    four = {"alt.atheism", "comp.graphics", "sci.med", "soc.religion.christian"}
    assert all(set(one["categories"]) == four and "headers" in one["remove"] for one in requests)
    assert (result.texts, result.labels_test, result.classes) == (["a", "b"], [0, 1], ["x", "y"])


def test_the_picture(output, results):
    pixels = np.asarray(Image.open(output / "text.png").convert("RGB"))
    assert pixels.shape[1] == 1690
    for colour in ((63, 143, 79), (193, 39, 45)):  # words for and against
        assert (np.abs(pixels.astype(int) - colour).sum(axis=2) < 12).sum() > 2000


@pytest.mark.browser
def test_the_page_opens_without_a_network(output, results, browser):
    page = browser.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((output / "text.html").as_uri())
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [(output / "text.html").as_uri()]
    (width,) = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert width > 1000
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("blockquote").count() == 3
    shaded = page.locator("details[open] span[style*='background-color']").all_inner_texts()
    assert set(shaded) & {*functools.reduce(operator.iadd, PLANTED.values(), [])}
    page.close()


@pytest.mark.slow
@pytest.mark.skipif(not NEWS.is_file(), reason="no 20news-4.tar.gz in DATA_DIR")
def test_four_newsgroups(tmp_path):
    with tarfile.open(NEWS) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = (one.parent for one in tmp_path.glob("*/train"))
    words = ["text", "--corpus", str(folder), "--documents", "1", "--samples", "300", "--output", str(tmp_path / "o")]
    results = explain.main(words)
    assert (results["train"], results["test"]) == (2256, 1502)
    assert results["scores"]["linear SVM"]["accuracy"] >= 0.92
    assert results["scores"]["SVD + SVM"]["accuracy"] >= 0.88
    assert {"graphics", "images"} <= set(results["class_words"]["comp.graphics"])
    assert {"god", "church"} <= set(results["class_words"]["soc.religion.christian"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corpus", "NOWHERE"], "there is no folder"),
        (["--corpus", "ONE"], "has 1 folders; a corpus has one folder of texts for each class"),
        (["--corpus", "EMPTY"], "has no file; remove it or add texts"),
        (["--corpus", "DIFFERENT"], "must be the same, found animals, tools and animals, colours"),
        (["--corpus", "TINY"], "has one text only"),
        (["--samples", "3"], "--samples must be at least 50, found 3"),
        (["--words", "0"], "--words must be at least 1, found 0"),
        (["--corpus", "20newsgroups"], "20 newsgroups cannot be downloaded (URLError"),
    ],
)
def test_a_mistake_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    def fetch(**options):
        raise URLError("no network")

    monkeypatch.setattr(corpora, "fetch_20newsgroups", fetch)
    write(tmp_path / "ONE", ["animals"], 3)
    write(tmp_path / "EMPTY", ["animals"], 3)
    (tmp_path / "EMPTY" / "none").mkdir()
    write(tmp_path / "DIFFERENT" / "train", ["animals", "tools"], 3)
    write(tmp_path / "DIFFERENT" / "test", ["animals", "colours"], 3)
    write(tmp_path / "TINY", ["animals", "tools"], 1)
    words = [str(tmp_path / word) if word.isupper() else word for word in words]
    with pytest.raises(SystemExit) as ended:
        explain.main(["text", *words, "--output", str(tmp_path / "out")])
    assert ended.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
