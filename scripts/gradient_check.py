"""Are the gradients right? Backpropagation against central differences in float64; optimizers against their twins.

    python scripts/gradient_check.py
    python scripts/gradient_check.py --data mnist       # MNIST from DATA_DIR

TwoLayerNet (784-50-10, three images) in every coordinate; every layer of "Deep Learning from Scratch", every activation
and every backbone in some coordinates of each tensor; every optimizer's steps beside those of its reference twin. What
is too large ends the program with exit code 1. Coordinates where the loss has a kink or a jump within the step are
counted and left out. The output folder gets ``results.json`` and ``gradient_check.png``.
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _common.command_line import run_command_line, warn
from _common.console import print_files, print_rows, say
from _common.digit_images import Source, read_digits
from _common.runs import new_run, write_json
from _gradient_check.differences import compare
from _gradient_check.figure import figure
from _gradient_check.optimizer_twins import optimizer_differences
from _gradient_check.subjects import Subject, backbones, classifier, layers, zoo
from lightning_modules.backbones import TwoLayerNet

IMAGES = 3
EXHAUSTIVE_STEP, EXHAUSTIVE_LIMIT = 1e-4, 1e-8
"""Of TwoLayerNet: h, and the largest absolute difference that is right."""
STEP, LIMIT = 1e-6, 1e-6
"""Of the others: h, and the largest difference that is right as a share of the largest gradient."""
TWIN_LIMIT = 1e-10
"""The largest difference between an optimizer's weights and its twin's after any step."""


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
        data: Where the three images are from: digits (scikit-learn's, no download) or mnist.
        samples: Coordinates of each tensor of a layer or activation.
        backbone_samples: Coordinates of each tensor of a backbone.
        data_dir: Folder that MNIST lies in; by default the environment's DATA_DIR, else data.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the weights, the inputs and the choice of coordinates.

    Returns:
        What results.json holds.
    """
    for name, value in (("samples", samples), ("backbone_samples", backbone_samples)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, found {value}")
    images, labels = three_images(data, data_dir)
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
        "TwoLayerNet": exhaustively(network),
        "layers": sampled(layers(seed), samples, seed),
        "activations": sampled(zoo(seed), samples, seed),
        "backbones": sampled(backbones(images, labels, seed), backbone_samples, seed),
        "optimizers": optimizers(seed),
        "files": {"figure": "gradient_check.png", "results": "results.json"},
    }
    sections = ("TwoLayerNet", "layers", "activations", "backbones", "optimizers")
    wrong = [f"{section}: {name}" for section in sections for name, row in results[section].items() if not row["right"]]
    results["wrong"] = wrong
    folder = output or new_run("runs")
    folder.mkdir(parents=True, exist_ok=True)
    figure(results, network).savefig(folder / "gradient_check.png", dpi=100)
    write_json(folder / "results.json", results)
    report(results, folder)
    if wrong:
        verb = "is" if len(wrong) == 1 else "are"
        print(f"error: {len(wrong)} of the gradients {verb} wrong: {'; '.join(wrong)}", file=sys.stderr)
        raise SystemExit(1)
    return results


def three_images(data: Source, data_dir: str | None) -> tuple[Tensor, Tensor]:
    """The first three training images, float64 from 0 to 1, ``[3, 1, H, W]``, and their classes."""
    found = read_digits(data, "train", data_dir)
    return torch.from_numpy(found.images[:IMAGES]).double()[:, None] / 255, torch.from_numpy(found.labels[:IMAGES])


def exhaustively(network: Subject) -> dict[str, dict[str, Any]]:
    """Every coordinate of a network, parameter by parameter."""
    limit = EXHAUSTIVE_LIMIT
    # Kinks are looked for where the difference is above the limit, which is absolute here.
    scale = max(float(g.abs().max()) for g in torch.autograd.grad(network.loss(), list(network.tensors.values())))
    found = compare(network.loss, network.tensors, EXHAUSTIVE_STEP, limit / scale, None)
    return {
        name: one._asdict() | {"right": one.largest <= limit and 2 * one.kinks <= one.coordinates}
        for name, one in found.items()
    }


def sampled(subjects: Iterable[Subject], samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Some coordinates of each tensor of each subject; the differences as shares of its largest gradient."""
    rows = {}
    for subject in subjects:
        found = compare(subject.loss, subject.tensors, STEP, LIMIT, samples, seed).values()
        scale = max(one.scale for one in found)
        largest = max((one.largest for one in found), key=lambda value: math.inf if math.isnan(value) else value)
        checked = {"coordinates": sum(one.coordinates for one in found), "kinks": sum(one.kinks for one in found)}
        relative = largest / scale if scale else largest
        right = relative <= LIMIT and 2 * checked["kinks"] <= checked["coordinates"]
        rows[subject.name] = checked | {"largest": largest, "scale": scale, "relative": relative, "right": right}
    return rows


def optimizers(seed: int) -> dict[str, dict[str, Any]]:
    """Each optimizer and its twin; nothing, after a line that says so, where the twins are not at hand."""
    try:
        found = optimizer_differences(seed)
    except FileNotFoundError as error:
        warn(f"the optimizers are not checked: {error}")
        return {}
    for name in [name for name, value in found.items() if value is None]:
        warn(f"{name} is not checked: it has no twin in scripts/_gradient_check/optimizer_twins.py")
    return {
        name: {"largest": value, "right": value <= TWIN_LIMIT} for name, value in found.items() if value is not None
    }


def report(results: dict[str, Any], folder: Path) -> None:
    """Print the tables, and where the files are."""
    exhaustive = {
        name: {"coordinates": row["coordinates"], "kinks": row["kinks"]}
        | {"mean difference": f"{row['mean']:.1e}", "largest": f"{row['largest']:.1e}", "right": word(row)}
        for name, row in results["TwoLayerNet"].items()
    }
    print_rows(
        f"TwoLayerNet on {IMAGES} images, every coordinate, h = {EXHAUSTIVE_STEP:g}; right up to {EXHAUSTIVE_LIMIT:g}",
        exhaustive,
        "parameter",
    )
    for section in ("layers", "activations", "backbones"):
        rows = {
            name: {"coordinates": row["coordinates"], "kinks": row["kinks"]}
            | {"largest / largest gradient": f"{row['relative']:.1e}", "right": word(row)}
            for name, row in results[section].items()
        }
        print_rows(f"{section}, h = {STEP:g}; right up to {LIMIT:g}", rows)
    rows = {
        name: {"largest": f"{row['largest']:.1e}", "right": word(row)} for name, row in results["optimizers"].items()
    }
    print_rows(f"optimizers' weights beside their twins', 30 steps; right up to {TWIN_LIMIT:g}", rows)
    print_files(folder, results["files"])
    if not results["wrong"]:
        say("all gradients are right")


def word(row: dict[str, Any]) -> str:
    """Yes or no."""
    return "yes" if row["right"] else "NO"


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line(run, args)


if __name__ == "__main__":
    main()
