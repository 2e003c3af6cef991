"""The figure of ``explain.py text``: words that speak for each class, and for the classes of single documents."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FOR, AGAINST, POOR = "#3f8f4f", "#c1272d", "#a40000"
MOST_CLASSES = 4
MOST_DOCUMENTS = 4


def figure(title: str, results: dict[str, Any]) -> Figure:
    """Draw the linear SVM's words of each class above, and below one row for each explained document.

    A document's row has what the linear SVM adds up, exactly, and the local models of both classifiers.
    """
    classes = list(results["class_words"])[:MOST_CLASSES]
    documents = results["documents"][:MOST_DOCUMENTS]
    drawing = Figure(figsize=(13, 3.2 + 2.5 * len(documents)), dpi=100, layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.suptitle(title, fontsize=13, fontweight="bold")
    heights = [3.0, *[2.5] * len(documents)]
    above, *below = drawing.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    above.suptitle("Words that speak for each class: weights of the linear SVM", fontsize=10)
    for axes, name in zip(above.subplots(1, len(classes)), classes, strict=True):
        _bars(axes, results["class_words"][name], 10)
        axes.set_title(name, fontsize=9, loc="left")
    for part, document in zip(below, documents, strict=True):
        _document(part, document)
    return drawing


def _document(part: Any, document: dict[str, Any]) -> None:
    words = " ".join(document["text"].split()[:18])
    head = f"truly {document['truth']}: “{words} …”"
    part.suptitle(head, fontsize=9, parse_math=False)
    panels = part.subplots(1, 1 + len(document["local"]))
    _bars(panels[0], document["exact"], 7)
    panels[0].set_title(f"linear SVM, exactly,\nfor {document['explained']}", fontsize=9, loc="left")
    for axes, (name, local) in zip(panels[1:], document["local"].items(), strict=True):
        if "error" in local:
            axes.set_axis_off()
            axes.set_title(f"{name}: no local model", fontsize=9, loc="left")
            continue
        _bars(axes, local["words"].get(local["explained"], {}), 7)
        poor = ", POOR" if local["warning"] else ""
        fidelity = f"KL {local['mean_KL_divergence']:.2f}, score {local['score']:.2f}{poor}"
        text = f"{name}, local model for {local['explained']}\n{fidelity}"
        axes.set_title(text, fontsize=9, loc="left", color=POOR if poor else "black")


def _bars(axes: Axes, words: dict[str, float], count: int) -> None:
    """The words of greatest weight, for and against."""
    chosen = sorted((word for word in words if word != "<BIAS>"), key=lambda word: -abs(words[word]))[:count]
    chosen.sort(key=lambda word: words[word])
    values = [words[word] for word in chosen]
    axes.barh(range(len(chosen)), values, color=[FOR if value > 0 else AGAINST for value in values], height=0.75)
    axes.set_yticks(range(len(chosen)), chosen, fontsize=8, parse_math=False)
    axes.tick_params(axis="x", labelsize=7)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
