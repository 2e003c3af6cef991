"""``explain.py text``: which words speak for which class, in general and in single documents."""

import random
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from _common.command_line import warn
from _common.console import print_files, print_rows, say
from _common.page import page, picture
from _common.runs import new_run, write_json
from _explain.captions import STYLES, cards, explanation_html, fold, heading, paragraph, rows_html
from _explain.corpora import Corpus, folder, newsgroups
from _explain.docstring_corpus import docstrings
from _explain.local_explanations import BIAS, NotExplainedError
from _explain.text_figure import figure
from _explain.text_models import agreement, class_words, exact_words, linear_svm, local_model, score_table, svd_svm

SHORTEST, LONGEST = 30, 160
"""Words of the documents that are explained, where there are such."""
LINEAR, BLACK_BOX = "linear SVM", "SVD + SVM"


def text(
    corpus: str = "docstrings",
    documents: int = 4,
    samples: int = 2000,
    words: int = 10,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train two classifiers of documents, and show which words spoke for which class.

    A linear SVM on tf-idf is explained exactly. It and an SVM behind a singular value decomposition, a black box as to
    words, are also explained by eli5's TextExplainer: a linear model of what the classifier says about variations of
    one document, with how well it does that, and a warning where it does it badly.

    Args:
        corpus: docstrings (of torch, numpy, scikit-learn and scipy, classified by library: no download), 20newsgroups
            (downloaded by scikit-learn), or a folder CLASS/*.txt, or one of train/CLASS/*.txt and test/CLASS/*.txt.
        documents: Number of test documents to explain, the last of them one that is classified wrongly.
        samples: Variations of each document.
        words: Number of words to print for each class.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the split, the models and the variations.

    Returns:
        What results.json holds.
    """
    for name, value, least in (("documents", documents, 0), ("samples", samples, 50), ("words", words, 1)):
        if value < least:
            raise ValueError(f"--{name} must be at least {least}, found {value}")
    data = _corpus(corpus, seed)
    target = output or new_run("runs")
    target.mkdir(parents=True, exist_ok=True)
    models = {LINEAR: linear_svm(data, seed), BLACK_BOX: svd_svm(data, seed)}
    scores = score_table(models, data)
    size = f"{len(data.texts):,} documents to learn from, {len(data.texts_test):,} to test on"
    print_rows(f"{data.name}: {size}", scores, "classifier")
    by_class, weights = class_words(models[LINEAR], data.classes, words)
    listed = {name: {"words that speak for it": ", ".join(found)} for name, found in by_class.items()}
    print_rows("Words of the linear SVM", listed, "class")
    explained: list[dict[str, Any]] = []
    sections: list[str] = []
    for place in _chosen(data, models, documents, seed):
        one, html = _explain(data, place, models, samples, seed)
        explained.append(one)
        sections += html
    results: dict[str, Any] = {
        "corpus": data.name,
        "classes": data.classes,
        "train": len(data.texts),
        "test": len(data.texts_test),
        "note": data.note,
        "seed": seed,
        "samples": samples,
        "scores": scores,
        "class_words": by_class,
        "documents": explained,
        "files": {"figure": "text.png", "page": "text.html", "results": "results.json"},
    }
    drawing = figure(f"{data.name}: which words speak for which class", results)
    drawing.savefig(target / "text.png", dpi=130)
    top = [
        paragraph(f"{size}."),
        rows_html(scores, "classifier"),
        fold("Where the test documents come from", paragraph(data.note)) if data.note else "",
        picture(drawing, f"Words that speak for the classes of {data.name}", dpi=110),
        fold("The linear SVM's words", explanation_html(weights)),
    ]
    whole = page(f"{data.name}: which words speak for which class", *top, *sections, head=STYLES)
    (target / "text.html").write_text(whole, encoding="utf-8")
    write_json(target / "results.json", results)
    print_files(target, results["files"])
    return results


def _corpus(name: str, seed: int) -> Corpus:
    if name == "docstrings":
        return docstrings(seed)
    if name == "20newsgroups":
        return newsgroups()
    return folder(Path(name), seed)


def _chosen(data: Corpus, models: dict[str, Any], count: int, seed: int) -> list[int]:
    """Test documents to explain, of a length to read: rightly classified ones of the classes in turn, and a wrong one.

    The wrong one is that of which the black box is most certain.
    """
    truth = np.array(data.labels_test)
    certain = models[BLACK_BOX].predict_proba(data.texts_test)
    both = np.array([models[LINEAR].predict(data.texts_test), certain.argmax(axis=1)])
    lengths = np.array([len(one.split()) for one in data.texts_test])
    readable = (lengths >= SHORTEST) & (lengths <= LONGEST)
    if not readable.any():
        readable = lengths > 0
    wrong = np.flatnonzero(readable & (both[0] != truth) & (both[1] != truth))
    last = [int(wrong[certain[wrong].max(axis=1).argmax()])] if len(wrong) and count > 1 else []
    chance = random.Random(seed)
    right = readable & (both == truth).all(axis=0)
    by_class = [np.flatnonzero(right & (truth == label)).tolist() for label in range(len(data.classes))]
    for places in by_class:
        chance.shuffle(places)
    turns = [places[turn] for turn in range(count) for places in by_class if turn < len(places)]
    return (turns[: count - len(last)] + last)[:count]


def _explain(
    data: Corpus, place: int, models: dict[str, Any], samples: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """What both classifiers say about one test document, and why; numbers, and sections for the page."""
    document, truth = data.texts_test[place], data.classes[data.labels_test[place]]
    predicted = {name: int(model.predict([document])[0]) for name, model in models.items()}
    label = predicted[LINEAR]
    shown = data.classes[label]
    exact, score, explanation = exact_words(models[LINEAR], document, data.classes, label)
    rows: dict[str, dict[str, Any]] = {
        f"{LINEAR}, exactly": {"says": shown, "because of": _strongest(exact)},
    }
    details = {f"{LINEAR}, exactly: score {score:.3f}": f'<div class="document">{explanation_html(explanation)}</div>'}
    local: dict[str, Any] = {}
    for name, model in models.items():
        says = data.classes[predicted[name]]
        try:
            found = local_model(model, document, data.classes, predicted[name], samples, seed)
        except NotExplainedError as error:
            local[name] = {"error": str(error)}
            rows[f"{name}, local model"] = {"says": says, "because of": f"cannot be explained: {error}"}
            continue
        local[name] = {
            "mean_KL_divergence": found.divergence,
            "score": found.score,
            "warning": found.warning,
            "explained": says,
            "words": found.words,
        }
        if name == LINEAR:
            local[name]["agreement"] = agreement(found.words.get(says, {}), exact)
        rows[f"{name}, local model"] = {
            "says": says,
            "because of": _strongest(found.words.get(says, {})),
            "mean KL": found.divergence,
            "score": found.score,
        }
        if found.warning:
            warn(f"document {place}, {name}: {found.warning}")
        note = paragraph(found.warning, "warning") if found.warning else ""
        fidelity = paragraph(f"Mean KL divergence {found.divergence:.3f}, score {found.score:.3f}.", "note")
        body = f'<div class="document">{explanation_html(found.explanation)}</div>'
        details[f"{name}: {says}, by a local model"] = note + fidelity + body
    title = f"Test document {place}, truly {truth}"
    print_rows(title, rows, "explanation")
    if "agreement" in local[LINEAR]:
        say(f"correlation of the linear SVM's local words with its exact ones: {local[LINEAR]['agreement']:.2f}")
    result = {
        "document": place,
        "truth": truth,
        "explained": shown,
        "predictions": {name: data.classes[one] for name, one in predicted.items()},
        "probabilities": {
            name: dict(zip(data.classes, model.predict_proba([document])[0].tolist(), strict=True))
            for name, model in models.items()
        },
        "text": document,
        "exact": exact,
        "exact_score": score,
        "local": local,
    }
    quote = f"<blockquote>{escape(document)}</blockquote>"
    return result, [
        heading(title),
        quote,
        rows_html(rows, "explanation"),
        fold("Word by word", cards(details), is_open=True),
    ]


def _strongest(weights: dict[str, float], count: int = 6) -> str:
    """The words of greatest weight for a class; those against it with a minus."""
    words = sorted((word for word in weights if word != BIAS), key=lambda word: -abs(weights[word]))[:count]
    return ", ".join(word if weights[word] > 0 else f"−{word}" for word in words)
