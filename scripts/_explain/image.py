"""`explain.py image`: heatmaps of the regions that support a network's prediction for test images."""

import math
from html import escape
from pathlib import Path
from typing import Any

import eli5
import numpy as np
from eli5.formatters.image import format_as_image
from matplotlib.figure import Figure
from torch import Tensor

import evaluation.explanation  # noqa: F401 - registers PyTorch with eli5
from _common.cli import at_least
from _common.console import print_rows, say
from _common.page import page, picture
from _common.rebuild import TrainedRun, rebuild, train_default
from _common.run import Run
from _explain.html import escaped
from evaluation.explanation import ImageExplanation
from evaluation.fonts import draw_literally, legible

MEASURES = {
    "deletion": "deletion",
    "random_deletion": "at random",
    "insertion": "insertion",
    "random_insertion": "at random ",  # the space keeps the two columns apart
    "random_correlation": "re-initialised",
}
"""Attribute of a faithfulness -> heading of its column."""
PAIRS = 4
"""Images in a line of the figure, each with its heatmap."""
LEGEND = (
    "Deletion, insertion: AUC of the class probability while pixels are deleted (lower is better) or inserted (higher\n"
    "is better) in the heatmap's order and at random. Re-initialised: rank correlation with the heatmap of random\n"
    "weights (near 0 is better)."
)


def image(
    checkpoint: Path | None = None,
    index: list[int] | None = None,
    count: int = 8,
    target: str | None = None,
    layer: str | None = None,
    relu: bool = True,
    output: Path | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    trust: str = "",
) -> dict[str, Any]:
    """Draw heatmaps of the regions in test images that support a class, and measure their faithfulness.

    Args:
        checkpoint: Checkpoint of a run of train.py; by default a network is trained on the digits first.
        index: Indices of the test images, such as [0,7]; by default a random choice.
        count: Number of images to choose at random.
        target: Class to explain; by default the predicted one.
        layer: Name of the layer to map; by default the last feature maps, or the tokens of a transformer.
        relu: Whether to hide the regions that oppose the class.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
        accelerator: Device: auto, cpu, gpu or another of Lightning's accelerators.
        trust: Packages, separated by commas, that the checkpoint and its run may name.
    """
    at_least(1, count=count)
    checkpoint = checkpoint or train_default()
    run = rebuild(checkpoint, accelerator, trust)
    selected = select(run, index, count, seed)
    classes = [str(name) for name in getattr(run.datamodule, "classes", None) or range(run.model.num_classes)]
    options: dict[str, Any] = {
        "target_names": classes,
        "targets": None if target is None else [target],
        "layer": layer,
        "relu": relu,
        "mean": getattr(run.datamodule, "mean", None),
        "std": getattr(run.datamodule, "std", None),
        "seed": seed,
    }
    explained = {i: eli5.explain_prediction(run.model, pixels, **options) for i, (pixels, _) in selected.items()}
    rows = {i: _row(explanation, classes[selected[i][1]]) for i, explanation in explained.items()}
    results = {
        "checkpoint": str(checkpoint),
        "method": next(iter(explained.values())).method,
        "seed": seed,
        "images": {str(i): row for i, row in rows.items()},
        "mean": _means(list(rows.values())),
        "files": {"figure": "explanations.png", "page": "explanations.html", "results": "results.json"},
    }
    names = dict(zip(classes, legible(classes), strict=True))
    figure = draw(
        explained,
        {i: row | {key: names.get(row[key], row[key]) for key in ("label", "explained")} for i, row in rows.items()},
    )
    out = Run.at(output)
    figure.savefig(out.folder / "explanations.png", dpi=100)
    (out.folder / "explanations.html").write_text(_page(results, figure, explained), encoding="utf-8")
    say(LEGEND)
    table = {**results["images"], "mean": results["mean"]}
    columns = {key: key for key in ("label", "explained", "probability")} | MEASURES
    print_rows(f"{checkpoint}: {results['method']}", table, "test image", columns)
    return out.finish(results)


def select(run: TrainedRun, index: list[int] | None, count: int, seed: int) -> dict[int, tuple[Tensor, int]]:
    """Return test images `[C, H, W]`, normalised as the network gets them, and their labels, by index."""
    at_least(1, count=count)
    run.datamodule.prepare_data()
    run.datamodule.setup("test")
    loader = run.datamodule.test_dataloader()
    total = sum(len(labels) for _, labels in loader)
    if total == 0:
        raise ValueError("the data have no test images to explain")
    if index is None:
        index = np.random.default_rng(seed).choice(total, min(count, total), replace=False).tolist()
    wrong = [i for i in index if not 0 <= i < total]
    if wrong or not index:
        raise ValueError(f"--index must hold numbers from 0 to {total - 1}, found {wrong[0] if wrong else 'none'}")
    examples = ((image.cpu(), int(label)) for batch in loader for image, label in zip(*batch, strict=True))
    selected = {i: example for i, example in enumerate(examples) if i in index}
    shape = list(selected[index[0]][0].shape)
    if len(shape) != 3:
        raise ValueError(f"explain.py image needs images [C, H, W], found examples of shape {shape}")
    return selected


def _row(explanation: ImageExplanation, label: str) -> dict[str, Any]:
    target, faithfulness = explanation.targets[0], explanation.faithfulness
    assert faithfulness is not None  # it is measured by default
    row: dict[str, Any] = {"label": label, "explained": str(target.target), "probability": target.proba}
    return row | {name: getattr(faithfulness, name) for name in MEASURES} | {"remark": faithfulness.remark}


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of each measure over the images for which it is defined."""
    values = {name: [row[name] for row in rows if isinstance(row[name], float)] for name in MEASURES}
    return {name: float(np.mean(defined)) for name, defined in values.items() if defined}


def draw(explained: dict[int, ImageExplanation], rows: dict[int, dict[str, Any]]) -> Figure:
    """Draw a grid of pairs: a test image, and beside it the image with its heatmap."""
    columns = min(len(explained), PAIRS)
    lines = math.ceil(len(explained) / columns)
    figure = Figure(figsize=(3.1 * columns, 1.8 * lines), layout="constrained", facecolor="white")
    pairs = np.ravel(figure.subfigures(lines, columns, wspace=0.04, squeeze=False))
    for pair, (i, explanation) in zip(pairs, explained.items(), strict=False):
        original, heatmap = pair.subplots(1, 2)
        original.imshow(np.asarray(explanation.image))
        original.set_title(f"{i}, true: {rows[i]['label']}", fontsize=9)
        heatmap.imshow(np.asarray(format_as_image(explanation).convert("RGB")))
        heatmap.set_title(f"{rows[i]['explained']}: {rows[i]['probability']:.0%}", fontsize=9)
        for axes in (original, heatmap):
            axes.set_axis_off()
    draw_literally(figure)
    return figure


def _page(results: dict[str, Any], figure: Figure, explained: dict[int, ImageExplanation]) -> str:
    introduction = (
        f"<p>{escape(results['checkpoint'])}: {escape(results['method'])}. Each pair: a test image, and beside it "
        "the regions that support the class given, with its probability.</p>"
    )
    sections = [introduction, picture(figure, "test images and their heatmaps")]
    for i, explanation in explained.items():
        sections.append(f"<h2>Test image {i}, class {escape(results['images'][str(i)]['label'])}</h2>")
        sections.append(escaped(explanation))
    return page("Regions that support the prediction", *sections, head=eli5.format_html_styles())
