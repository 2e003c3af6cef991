"""What a trained network looks at in test images: ``explain.py image``."""

from html import escape
from pathlib import Path
from typing import Any

import eli5
import numpy as np
from eli5.formatters.image import format_as_image
from matplotlib.figure import Figure
from torch import Tensor

import evaluation.explanation  # noqa: F401  (teaches eli5 about torch)
from _common.console import print_files, print_rows, say
from _common.page import page, picture
from _common.rebuild import TrainedRun, rebuild, train_default
from _common.runs import new_run, write_json
from evaluation.explanation import ImageExplanation

MEASURES = ("deletion", "random_deletion", "insertion", "random_insertion", "random_correlation")
SHORT = {
    "random_deletion": "at random",
    "random_insertion": "at random ",  # another name than that of the column before
    "random_correlation": "re-initialised",
}
HEADING = (
    "AUC of the class's probability while pixels are deleted (lower is better) or inserted (higher) in the map's\n"
    "order and at random; rank correlation of the map with that of re-initialised weights (near 0 is better)."
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
) -> dict[str, Any]:
    """Maps of the places in test images that speak for a class, and how faithful the maps are.

    Args:
        checkpoint: A checkpoint of a run of train.py; without one the digits default is trained first.
        index: Numbers of the test images; by default some drawn at random.
        count: How many to draw.
        target: The class to explain; by default the predicted one.
        layer: Name of the layer to map; by default the last feature maps, or a transformer's tokens.
        relu: Leave out what speaks against the class.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the drawn images, of random orders and of re-initialised weights.
        accelerator: Lightning's name of the device.

    Returns:
        What results.json holds.
    """
    if checkpoint is None:
        checkpoint = train_default("runs")
    run = rebuild(checkpoint, accelerator)
    chosen = pick(run, index, count, seed)
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
    explained = {
        number: eli5.explain_prediction(run.model, pixels, **options) for number, (pixels, _) in chosen.items()
    }
    rows = {number: _row(one, classes[chosen[number][1]]) for number, one in explained.items()}
    folder = output or new_run("runs")
    results = {
        "checkpoint": str(checkpoint),
        "method": next(iter(explained.values())).method,
        "seed": seed,
        "images": {str(number): row for number, row in rows.items()},
        "mean": _means(list(rows.values())),
        "files": {"figure": "explanations.png", "page": "explanations.html", "results": "results.json"},
    }
    figure = draw(explained, rows)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "explanations.png", dpi=100)
    (folder / "explanations.html").write_text(_page(results, figure, explained), encoding="utf-8")
    write_json(folder / "results.json", results)
    say(HEADING)
    table = {str(number): _columns(row) for number, row in rows.items()} | {"mean": _columns(results["mean"])}
    print_rows(f"{checkpoint}: {results['method']}", table, "test image")
    print_files(folder, results["files"])
    return results


def pick(run: TrainedRun, index: list[int] | None, count: int, seed: int) -> dict[int, tuple[Tensor, int]]:
    """Return test images ``[C, H, W]``, normalised as the network gets them, and their labels, by their numbers.

    Args:
        run: What was trained.
        index: Their numbers; None draws some.
        count: How many to draw.
        seed: Of the draw.

    Raises:
        ValueError: If the data are no images, or there are no such images.
    """
    run.datamodule.prepare_data()
    run.datamodule.setup("test")
    loader = run.datamodule.test_dataloader()
    chosen = set(_choose(index, count, sum(len(labels) for _, labels in loader), seed))
    found: dict[int, tuple[Tensor, int]] = {}
    first = 0
    for images, labels in loader:
        if images.ndim != 4:
            raise ValueError(f"explain.py image explains images [N, C, H, W], the run's data are {list(images.shape)}")
        here = [place for place in range(len(labels)) if first + place in chosen]
        found |= {first + place: (images[place].cpu(), int(labels[place])) for place in here}
        first += len(labels)
    return found


def _choose(index: list[int] | None, count: int, total: int, seed: int) -> list[int]:
    if total == 0:
        raise ValueError("there is no test split whose images could be explained")
    if index is None:
        if count < 1:
            raise ValueError(f"--count must be at least 1, found {count}")
        return np.random.default_rng(seed).choice(total, min(count, total), replace=False).tolist()
    wrong = [number for number in index if not 0 <= number < total]
    if wrong or not index:
        raise ValueError(f"--index must hold numbers from 0 to {total - 1}, found {wrong[0] if wrong else 'none'}")
    return index


def _row(explanation: ImageExplanation, label: str) -> dict[str, Any]:
    target = explanation.targets[0]
    found = explanation.faithfulness
    assert found is not None  # it is measured by default
    row: dict[str, Any] = {"label": label, "explained": str(target.target), "probability": target.proba}
    return row | {name: getattr(found, name) for name in MEASURES} | {"remark": found.remark}


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The means over the images, those for which a measure is undefined left out."""
    values = {name: [row[name] for row in rows if isinstance(row[name], float)] for name in MEASURES}
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table, with short headings."""
    shown = {name: "undefined" if value is None else value for name, value in row.items() if name != "remark"}
    return {SHORT.get(name, name): value for name, value in shown.items()}


def draw(explained: dict[int, ImageExplanation], rows: dict[int, dict[str, Any]]) -> Figure:
    """The images above, with their maps over them below."""
    columns = min(len(explained), 8)
    lines = -(-len(explained) // columns)
    figure = Figure(figsize=(1.5 * columns + 0.2, 3.5 * lines), layout="constrained", facecolor="white")
    axes = figure.subplots(2 * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, (number, explanation) in enumerate(explained.items()):
        line, column = divmod(place, columns)
        above, below = axes[2 * line, column], axes[2 * line + 1, column]
        row = rows[number]
        above.imshow(np.asarray(explanation.image))
        above.set_title(f"is {row['label']}", fontsize=9, parse_math=False)
        below.imshow(np.asarray(format_as_image(explanation).convert("RGB")))
        below.set_title(f"{row['explained']}: {row['probability']:.0%}", fontsize=9, parse_math=False)
    return figure


def _page(results: dict[str, Any], figure: Figure, explained: dict[int, ImageExplanation]) -> str:
    sections = [
        f"<p>{escape(results['checkpoint'])}: {escape(results['method'])}. Above the test images, below them the "
        "places that speak for the class named.</p>",
        picture(figure, "test images and the maps over them"),
    ]
    for number, explanation in explained.items():
        label = escape(results["images"][str(number)]["label"])
        sections.append(f"<h2>Test image {number}, of class {label}</h2>")
        sections.append(eli5.format_as_html(explanation, include_styles=False))
    return page("What the network looks at", *sections, head=eli5.format_html_styles())
