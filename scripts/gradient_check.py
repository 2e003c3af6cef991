"""Check gradients against central differences in float64, and optimizers against their reference twins.

    python scripts/gradient_check.py
    python scripts/gradient_check.py --data mnist       # MNIST from DATA_DIR
    python scripts/gradient_check.py --module my.Layer --module.width 8 --shape 4,8

All coordinates of TwoLayerNet (784-50-10, three images) are checked, and some coordinates of each tensor of every layer
of "Deep Learning from Scratch", every activation and every backbone. Coordinates where the loss has a kink or a jump
within the step are counted and excluded. The exit code is 1 if a difference is too large. The output folder gets
`results.json` and `gradient_check.png`.

`--module` checks a block of yours instead, in training and in evaluation mode: an nn.Module (--module.NAME sets its
options), a torch.autograd.Function, a function that makes a module, or a function of tensors, from a file of this
folder or an installed package. It gets a random input for each `--shape`, and gradients of all parameters and inputs
are compared in float64; the error names the tensor, its worst coordinate, and both values there. Inputs are

    --shape 4,3,8,8                standard normal              --shape 4,3:0.1..2    uniform in a range
    --shape 4,7:int:0..9           integers                     --shape mask=4,7:bool an argument by name
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from _common.cli import at_least, experiment
from _common.console import print_rows, say
from _common.described import Described, gather, repeated
from _common.digit_images import Source, read_digits
from _common.run import Run
from _gradient_check import own_module
from _gradient_check.differences import compare
from _gradient_check.figure import draw, draw_rows
from _gradient_check.optimizer_twins import STEPS, optimizer_differences
from _gradient_check.subjects import Subject, backbones, classifier, layers, zoo
from lightning_modules.backbones import TwoLayerNet

IMAGES = 3
EXHAUSTIVE_STEP, EXHAUSTIVE_LIMIT = 1e-4, 1e-8
"""TwoLayerNet: step h, and limit of the largest absolute difference."""
STEP, LIMIT = 1e-6, 1e-6
"""Everything else: step h, and limit of the largest difference relative to the largest gradient."""
TWIN_LIMIT = 1e-10
"""Limit of the difference between an optimizer's weights and its twin's after any step."""


def run(
    module: Described | None = None,
    shape: tuple[str, ...] = (),
    mode: own_module.Mode = "both",
    data: Source = "digits",
    samples: int | None = None,
    backbone_samples: int = 3,
    data_dir: str | None = None,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Check every gradient and return the contents of results.json; exit with code 1 if one is wrong.

    Args:
        module: Class or function of yours to check instead: an import path, or a name of torch.nn, activations or our
            backbones. --module.help lists its options.
        shape: Input of the module, SIZES[:DTYPE][:LOW..HIGH], once for each input.
        mode: Whether the module is checked in training or evaluation mode.
        data: Data set of the three images: digits (scikit-learn's, no download) or mnist.
        samples: Number of coordinates to check in each tensor of a layer or activation (20), or of the module (1000).
        backbone_samples: Number of coordinates to check in each tensor of a backbone.
        data_dir: Folder of MNIST; by default the environment variable DATA_DIR, or data if it is not set.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
    """
    at_least(1, samples=20 if samples is None else samples, backbone_samples=backbone_samples)
    if module is not None:
        return run_module(module, shape, mode, samples or 1000, output, seed)
    if shape or mode != "both":
        raise ValueError("--shape and --mode describe a module: add --module my.Layer")
    samples = samples or 20
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
        "optimizers": {
            name: {"largest": largest, "right": largest <= TWIN_LIMIT}
            for name, largest in optimizer_differences(seed).items()
        },
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


def run_module(
    module: Described, shape: tuple[str, ...], mode: own_module.Mode, samples: int, output: Path | None, seed: int
) -> dict[str, Any]:
    """Check the user's module and return the contents of results.json; exit with code 1 if a gradient is wrong."""
    results = own_module.check(module, shape, mode, samples, seed)
    results["files"] = {"figure": "gradient_check.png", "results": "results.json"}
    out = Run.at(output)
    draw_rows(results).savefig(out.folder / "gradient_check.png", dpi=100)
    own_module.report(results)
    out.finish(results)
    if wrong := own_module.errors(results):
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


def report(results: dict[str, Any]) -> None:
    """Print a table of each section."""
    counts, correct = {"coordinates": "coordinates", "kinks": "kinks"}, {"right": "correct"}
    columns = {"mean": "mean difference", "largest": "largest difference"}
    title = f"TwoLayerNet on {IMAGES} images, all coordinates, h = {EXHAUSTIVE_STEP:g}; limit {EXHAUSTIVE_LIMIT:g}"
    print_rows(title, results["TwoLayerNet"], "parameter", counts | columns | correct)
    columns = {"relative": "largest difference / largest gradient"}
    for section in ("layers", "activations", "backbones"):
        print_rows(f"{section}, h = {STEP:g}; limit {LIMIT:g}", results[section], "", counts | columns | correct)
    title = f"optimizers' weights against their twins', {STEPS} steps; limit {TWIN_LIMIT:g}"
    print_rows(title, results["optimizers"], "", {"largest": "largest difference"} | correct)


main = experiment(run, words=lambda words: repeated(gather(words, "module"), "shape"))

if __name__ == "__main__":
    main()
