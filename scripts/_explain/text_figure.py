"""The figure of `explain.py text`: words that support each class, and the classes of single documents."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _explain.text_models import strongest
from evaluation.fonts import draw_literally

FOR, AGAINST, POOR = "#3f8f4f", "#c1272d", "#a40000"
MAX_CLASSES = 4
MAX_DOCUMENTS = 4


def draw(title: str, results: dict[str, Any]) -> Figure:
    """Draw the linear SVM's words of each class, and below them one row for each explained document.

    A document's row shows the linear SVM's exact weights, and the local models of both classifiers.
    """
    classes = list(results["class_words"])[:MAX_CLASSES]
    documents = results["documents"][:MAX_DOCUMENTS]
    heights = [3.0, *[2.5] * len(documents)]
    figure = Figure(figsize=(13, 0.2 + sum(heights)), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold")
    above, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    above.suptitle("Words that support each class: weights of the linear SVM", fontsize=10)
    for axes, name in zip(above.subplots(1, len(classes)), classes, strict=True):
        _draw_bars(axes, results["class_words"][name], 10)
        axes.set_title(name, fontsize=9, loc="left")
    for part, document in zip(below, documents, strict=True):
        _draw_document(part, document)
    draw_literally(figure)
    return figure


def _draw_document(part: Any, document: dict[str, Any]) -> None:
    start = " ".join(document["text"].split()[:18])
    part.suptitle(f"true class {document['truth']}: “{start} …”", fontsize=9)
    panels = part.subplots(1, 1 + len(document["local"]))
    _draw_bars(panels[0], document["exact"], 7)
    panels[0].set_title(f"linear SVM, exact,\nfor {document['explained']}", fontsize=9, loc="left")
    for axes, (name, local) in zip(panels[1:], document["local"].items(), strict=True):
        if "error" in local:
            axes.set_axis_off()
            axes.set_title(f"{name}: no local model", fontsize=9, loc="left")
            continue
        _draw_bars(axes, local["words"].get(local["explained"], {}), 7)
        fidelity = f"KL {local['mean_KL_divergence']:.2f}, score {local['score']:.2f}"
        text = f"{name}, local model for {local['explained']}\n{fidelity}{', POOR' if local['warning'] else ''}"
        axes.set_title(text, fontsize=9, loc="left", color=POOR if local["warning"] else "black")


def _draw_bars(axes: Axes, weights: dict[str, float], count: int) -> None:
    """Draw the words of largest weight, for and against a class."""
    words = sorted(strongest(weights, count), key=lambda word: weights[word])
    values = [weights[word] for word in words]
    axes.barh(range(len(words)), values, color=[FOR if value > 0 else AGAINST for value in values], height=0.75)
    axes.set_yticks(range(len(words)), words, fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
