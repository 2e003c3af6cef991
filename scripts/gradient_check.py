"""Check gradients against central differences in float64, and optimizers against their reference twins.

    python scripts/gradient_check.py
    python scripts/gradient_check.py --data mnist       # MNIST from DATA_DIR

All coordinates of TwoLayerNet (784-50-10, three images) are checked, and some coordinates of each tensor of every layer
of "Deep Learning from Scratch", every activation and every backbone. Coordinates where the loss has a kink or a jump
within the step are counted and excluded. The exit code is 1 if a difference is too large. The output folder gets
`results.json` and `gradient_check.png`.
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from _common.cli import experiment
from _common.console import print_rows, say
from _common.digit_images import Source, read_digits
from _common.errors import warn
from _common.run import Run
from _gradient_check.differences import compare
from _gradient_check.figure import draw
from _gradient_check.optimizer_twins import STEPS, optimizer_differences
from _gradient_check.subjects import Subject, backbones, classifier, layers, zoo
from lightning_modules.backbones import TwoLayerNet

IMAGES = 3
EXHAUSTIVE_STEP, EXHAUSTIVE_LIMIT = 1e-4, 1e-8
"""TwoLayerNet: step h, and limit of the largest absolute difference."""
STEP, LIMIT = 1e-6, 1e-6
"""All others: step h, and limit of the largest difference relative to the largest gradient."""
TWIN_LIMIT = 1e-10
"""Limit of the difference between an optimizer's weights and its twin's after any step."""


def run(
    data: Source = "digits",
    samples: int = 20,
    backbone_samples: int = 3,
    data_dir: str | None = None,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Check every gradient; exit with code 1 if one is wrong.

    Args:
        data: Source of the three images: digits (scikit-learn's, no download) or mnist.
        samples: Number of coordinates to check in each tensor of a layer or activation.
        backbone_samples: Number of coordinates to check in each tensor of a backbone.
        data_dir: Folder with MNIST; by default the environment variable DATA_DIR, else data.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.

    Returns:
        The contents of results.json.
    """
    for name, value in (("samples", samples), ("backbone_samples", backbone_samples)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, found {value}")
    digits = read_digits(data, "train", data_dir)
    images = torch.from_numpy(digits.images[:IMAGES]).double()[:, None] / 255
    labels = torch.from_numpy(digits.labels[:IMAGES])
    padding = (28 - images.shape[-1]) // 2
    torch.manual_seed(seed)
    network = classifier("TwoLayerNet", TwoLayerNet(), F.pad(images, [padding] * 4), labels)
    results: dict[str, Any] = {
        "data": data,
        "seed": seed,
        "limits": {
            "TwoLayerNet": {"step": EXHAUSTIVE_STEP, "largest": EXHAUSTIVE_LIMIT},
            "others": {"step": STEP, "relative": LIMIT},
            "optimizers": {"largest": TWIN_LIMIT},
        },
        "TwoLayerNet": check_all(network),
        "layers": check_some(layers(seed), samples, seed),
        "activations": check_some(zoo(seed), samples, seed),
        "backbones": check_some(backbones(images, labels, seed), backbone_samples, seed),
        "optimizers": check_optimizers(seed),
        "files": {"figure": "gradient_check.png", "results": "results.json"},
    }
    sections = ("TwoLayerNet", "layers", "activations", "backbones", "optimizers")
    wrong = [f"{section}: {name}" for section in sections for name, row in results[section].items() if not row["right"]]
    results["wrong"] = wrong
    out = Run.at(output)
    draw(results, network).savefig(out.folder / "gradient_check.png", dpi=100)
    report(results)
    out.finish(results)
    if wrong:
        verb = "is" if len(wrong) == 1 else "are"
        print(f"error: {len(wrong)} of the gradients {verb} wrong: {'; '.join(wrong)}", file=sys.stderr)
        raise SystemExit(1)
    say("all gradients are correct")
    return results


def check_all(network: Subject) -> dict[str, dict[str, Any]]:
    """Check every coordinate of a network; return a row for each parameter."""
    limit = EXHAUSTIVE_LIMIT
    # `compare` takes its tolerance relative to the largest gradient, but this limit is absolute.
    scale = max(float(g.abs().max()) for g in torch.autograd.grad(network.loss(), list(network.tensors.values())))
    differences = compare(network.loss, network.tensors, EXHAUSTIVE_STEP, limit / scale, None)
    return {
        name: one._asdict() | {"right": one.largest <= limit and 2 * one.kinks <= one.coordinates}
        for name, one in differences.items()
    }


def check_some(subjects: Iterable[Subject], samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Check some coordinates of each tensor; return a row for each subject."""
    rows = {}
    for subject in subjects:
        differences = compare(subject.loss, subject.tensors, STEP, LIMIT, samples, seed).values()
        scale = max(one.scale for one in differences)
        largest = max((one.largest for one in differences), key=lambda value: math.inf if math.isnan(value) else value)
        counts = {key: sum(getattr(one, key) for one in differences) for key in ("coordinates", "kinks")}
        relative = largest / scale if scale else largest
        right = relative <= LIMIT and 2 * counts["kinks"] <= counts["coordinates"]
        rows[subject.name] = counts | {"largest": largest, "scale": scale, "relative": relative, "right": right}
    return rows


def check_optimizers(seed: int) -> dict[str, dict[str, Any]]:
    """Check each optimizer that has a reference twin."""
    rows = {}
    for name, largest in optimizer_differences(seed).items():
        if largest is None:
            warn(f"{name} is not checked: it has no twin optim/reference/{name.lower()}.py")
        else:
            rows[name] = {"largest": largest, "right": largest <= TWIN_LIMIT}
    return rows


def report(results: dict[str, Any]) -> None:
    """Print a table of each section."""
    title = f"TwoLayerNet on {IMAGES} images, all coordinates, h = {EXHAUSTIVE_STEP:g}; limit {EXHAUSTIVE_LIMIT:g}"
    columns = {"mean difference": "mean", "largest difference": "largest"}
    print_rows(title, table(results["TwoLayerNet"], columns), "parameter")
    for section in ("layers", "activations", "backbones"):
        columns = {"largest difference / largest gradient": "relative"}
        print_rows(f"{section}, h = {STEP:g}; limit {LIMIT:g}", table(results[section], columns))
    title = f"optimizers' weights against their twins', {STEPS} steps; limit {TWIN_LIMIT:g}"
    print_rows(title, table(results["optimizers"], {"largest difference": "largest"}))


def table(rows: dict[str, dict[str, Any]], columns: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the rows to print; `columns` maps headings to keys."""
    return {
        name: {key: row[key] for key in ("coordinates", "kinks") if key in row}
        | {heading: f"{row[key]:.1e}" for heading, key in columns.items()}
        | {"correct": "yes" if row["right"] else "NO"}
        for name, row in rows.items()
    }


main = experiment(run)


if __name__ == "__main__":
    main()
