"""`explain.py text`: the words that support each class, in general and in single documents."""

import random
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from _common.cli import at_least
from _common.console import print_rows, say
from _common.errors import warn
from _common.page import html_table, page, picture
from _common.run import Run
from _explain import html
from _explain.corpora import Corpus, folder, newsgroups
from _explain.docstrings import docstrings
from _explain.local_explanations import NotExplainedError
from _explain.text_figure import draw
from _explain.text_models import (
    agreement,
    class_words,
    exact_words,
    linear_svm,
    local_model,
    score_table,
    strongest,
    svd_svm,
)

MIN_WORDS, MAX_WORDS = 30, 160
"""Preferred length of the documents to explain."""
LINEAR, BLACK_BOX = "linear SVM", "SVD + SVM"


def text(
    corpus: str = "docstrings",
    documents: int = 4,
    samples: int = 2000,
    words: int = 10,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train two document classifiers, and show which words support which class.

    A linear SVM on tf-idf is explained exactly. Both it and an SVM on singular directions of tf-idf, which is a black
    box with regard to words, are also explained by eli5's TextExplainer: by a linear model that approximates the
    classifier on variations of one document. Its fidelity is reported, with a warning where it is poor.

    Args:
        corpus: Documents: docstrings (of torch, numpy, scikit-learn and scipy, classified by library), 20newsgroups
            (which scikit-learn downloads), or a folder of CLASS/*.txt, or of train/CLASS/*.txt and test/CLASS/*.txt.
        documents: Number of test documents to explain; the last one is misclassified.
        samples: Number of variations of each document, at least 50.
        words: Number of words to print for each class.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
    """
    at_least(0, documents=documents)
    at_least(50, samples=samples)
    at_least(1, words=words)
    if corpus == "docstrings":
        data = docstrings(seed)
    else:
        data = newsgroups() if corpus == "20newsgroups" else folder(Path(corpus), seed)
    out = Run.at(output)
    models = {LINEAR: linear_svm(data, seed), BLACK_BOX: svd_svm(data, seed)}
    scores = score_table(models, data)
    size = f"{len(data.texts):,} training and {len(data.texts_test):,} test documents"
    print_rows(f"{data.name}: {size}", scores, "classifier")
    by_class, weights = class_words(models[LINEAR], data.classes, words)
    listed = {name: {"top words": ", ".join(by_class[name])} for name in by_class}
    print_rows("Words of the linear SVM", listed, "class")
    explained, sections = [], []
    for index in _select(data, models, documents, seed):
        result, content = _explain(data, index, models, samples, seed)
        explained.append(result)
        sections += content
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
    title = f"{data.name}: words that support each class"
    figure = draw(title, results)
    figure.savefig(out.folder / "text.png", dpi=130)
    top = [
        html.paragraph(f"{size}. {data.note}"),
        html_table([{"classifier": name} | row for name, row in scores.items()]),
        picture(figure, f"Words that support the classes of {data.name}", dpi=110),
        html.fold("Words of the linear SVM", html.explanation_html(weights)),
    ]
    (out.folder / "text.html").write_text(page(title, *top, *sections, head=html.STYLES), encoding="utf-8")
    return out.finish(results)


def _select(data: Corpus, models: dict[str, Any], count: int, seed: int) -> list[int]:
    """Return indices of test documents of a readable length.

    They are correctly classified documents of the classes in turn, and last the document that both models misclassify
    and for which the black box's probability is highest.
    """
    truth = np.array(data.labels_test)
    probabilities = models[BLACK_BOX].predict_proba(data.texts_test)
    predicted = np.array([models[LINEAR].predict(data.texts_test), probabilities.argmax(axis=1)])
    lengths = np.array([len(one.split()) for one in data.texts_test])
    readable = (lengths >= MIN_WORDS) & (lengths <= MAX_WORDS)
    readable = readable if readable.any() else lengths > 0
    wrong = np.flatnonzero(readable & (predicted != truth).all(axis=0))
    last = [int(wrong[probabilities[wrong].max(axis=1).argmax()])] if len(wrong) and count > 1 else []
    right = readable & (predicted == truth).all(axis=0)
    by_class = [np.flatnonzero(right & (truth == label)).tolist() for label in range(len(data.classes))]
    generator = random.Random(seed)
    for indices in by_class:
        generator.shuffle(indices)
    turns = [index for turn in zip_longest(*by_class) for index in turn if index is not None]
    return (turns[: count - len(last)] + last)[:count]


def _explain(
    data: Corpus, index: int, models: dict[str, Any], samples: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Explain both classifiers' predictions for one test document; return results, and sections for the page."""
    document, truth = data.texts_test[index], data.classes[data.labels_test[index]]
    labels = {name: int(model.predict([document])[0]) for name, model in models.items()}
    predictions = {name: data.classes[label] for name, label in labels.items()}
    exact, score, explanation = exact_words(models[LINEAR], document, data.classes, labels[LINEAR])
    rows: dict[str, dict[str, Any]] = {
        f"{LINEAR}, exact": {"prediction": predictions[LINEAR], "top words": _listed(exact)}
    }
    details = {f"{LINEAR}, exact: score {score:.3f}": _marked(explanation)}
    local: dict[str, Any] = {}
    for name, model in models.items():
        row = rows[f"{name}, local model"] = {"prediction": predictions[name]}
        try:
            approximation = local_model(model, document, data.classes, labels[name], samples, seed)
        except NotExplainedError as error:
            local[name] = {"error": str(error)}
            row["top words"] = f"cannot be explained: {error}"
            continue
        words = approximation.words.get(predictions[name], {})
        local[name] = {
            "mean_KL_divergence": approximation.divergence,
            "score": approximation.score,
            "warning": approximation.warning,
            "explained": predictions[name],
            "words": approximation.words,
        }
        row |= {"top words": _listed(words), "mean KL": approximation.divergence, "score": approximation.score}
        if name == LINEAR:
            local[name]["agreement"] = agreement(words, exact)
        if approximation.warning:
            warn(f"document {index}, {name}: {approximation.warning}")
        fidelity = f"Mean KL divergence {approximation.divergence:.3f}, score {approximation.score:.3f}."
        notes = html.paragraph(approximation.warning, "warning") + html.paragraph(fidelity, "note")
        details[f"{name}: {predictions[name]}, by a local model"] = notes + _marked(approximation.explanation)
    title = f"Test document {index}, true class {truth}"
    print_rows(title, rows, "explanation")
    if "agreement" in local[LINEAR]:
        say(f"correlation of the linear SVM's local and exact weights: {local[LINEAR]['agreement']:.2f}")
    probabilities = {name: model.predict_proba([document])[0].tolist() for name, model in models.items()}
    result = {
        "document": index,
        "truth": truth,
        "explained": predictions[LINEAR],
        "predictions": predictions,
        "probabilities": {name: dict(zip(data.classes, p, strict=True)) for name, p in probabilities.items()},
        "text": document,
        "exact": exact,
        "exact_score": score,
        "local": local,
    }
    quote = f"<blockquote>{escape(document)}</blockquote>"
    folded = html.fold("Word by word", html.cards(details), is_open=True)
    listed = html_table([{"explanation": name} | row for name, row in rows.items()])
    return result, [f"<h2>{escape(title)}</h2>", quote, listed, folded]


def _listed(weights: dict[str, float]) -> str:
    """Return the six words of largest weight for a class; words against it have a minus sign."""
    return ", ".join(word if weights[word] > 0 else f"−{word}" for word in strongest(weights, 6))


def _marked(explanation: Any) -> str:
    """Return the document with its words highlighted by weight."""
    return f'<div class="document">{html.explanation_html(explanation)}</div>'
