"""Compare the loss landscapes around the minima of SGD and SAM, and their largest Hessian eigenvalues.

    python scripts/landscape.py                                  # trains both on scikit-learn's digits first
    python scripts/landscape.py --data mnist --epochs 3
    python scripts/landscape.py --checkpoints RUN/checkpoints/last.ckpt RUN/checkpoints/last.ckpt

The loss on training images is evaluated along two random, filter-normalised directions, drawn from the same random
numbers for both networks, with the networks in evaluation mode; biases and normalisation layers are not moved. The
Hessian is that of the same loss, over all parameters. A second picture has the loss on the line between the networks,
with the barrier between them, and on a plane through both. `--checkpoints` takes any two of the same network; the line
and the plane are computed on the first one's images. The output folder gets `results.json`, `landscape.png`,
`between.png`, `relief.png`, `tensorboard/`, and `runs/` with the two trainings.
"""

import contextlib
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import train
from _common.cli import at_least, experiment
from _common.console import print_rows, say
from _common.described import repeated
from _common.digit_images import Source
from _common.errors import warn
from _common.hessian import top_eigenvalue
from _common.rebuild import TrainedRun, rebuild
from _common.run import Run
from _landscape.between import between, check_same_network
from _landscape.figure import draw, draw_between, draw_relief
from _landscape.surface import filter_normalized, losses_along

PARTS = ("train", "test")
TOLERANCE = 1e-3
"""Relative tolerance of the top eigenvalue."""
DATA = {"digits": "DigitsDataModule", "mnist": "MNISTDataModule"}
COLUMNS = {
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "loss": "training loss",
    "mean_rise": "mean rise over the surface",
    "top_eigenvalue": "top Hessian eigenvalue",
    "residual": "residual",
}


def run(
    checkpoints: list[Path] | None = None,
    sgd: Path | None = None,
    sam: Path | None = None,
    data: Source = "digits",
    data_dir: str | None = None,
    backbone: str = "TwoLayerNet",
    epochs: int = 60,
    lr: float = 0.05,
    rho: float = 0.1,
    examples: int = 1000,
    radius: float = 1.0,
    points: int = 21,
    iterations: int = 200,
    accelerator: str = "cpu",
    output: Path | None = None,
    seed: int = 0,
    trust: str = "",
) -> dict[str, Any]:
    """Compare the loss around two trained networks, and return the contents of results.json.

    Args:
        checkpoints: Any two checkpoints of the same network, such as those of two seeds.
        sgd: Checkpoint trained with SGD; without checkpoints, both networks are trained first.
        sam: Checkpoint trained with SAM; give both checkpoints or neither.
        data: Training data: digits (scikit-learn's, no download) or mnist.
        data_dir: Folder of MNIST; by default the environment variable DATA_DIR, or data if it is not set.
        backbone: Network to train.
        epochs: Training epochs, for both optimizers.
        lr: Learning rate, for both optimizers; momentum is 0.9.
        rho: Radius of the neighbourhood of SAM.
        examples: Maximum number of training images in the loss.
        radius: Distance to the edge of the surface, as a multiple of each direction.
        points: Number of points along each side of the surface.
        iterations: Maximum number of power iterations.
        accelerator: Device: auto, cpu, gpu or another of Lightning's accelerators.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
        trust: Packages, separated by commas, that the checkpoints and their runs may name.
    """
    at_least(1, epochs=epochs, examples=examples, iterations=iterations)
    at_least(0, lr=lr, rho=rho)
    at_least(2, points=points)
    if radius <= 0:
        raise ValueError(f"--radius must be greater than 0, found {radius}")
    if (sgd is None) != (sam is None):
        raise ValueError("give two checkpoints, --sgd and --sam, or none to train both")
    if checkpoints is not None and (sgd is not None or len(checkpoints) != 2):
        given = len(checkpoints) + 2 * (sgd is not None)
        raise ValueError(f"--checkpoints must be two checkpoints, without --sgd and --sam, found {given}")
    out = Run.at(output)
    if checkpoints is not None:
        pairs = list(zip(labels_of(checkpoints), checkpoints, strict=True))
    elif sgd is not None and sam is not None:
        pairs = [("SGD", sgd), ("SAM", sam)]
    else:
        words = ["--data", DATA[data], "--model.backbone", backbone, "--trainer.max_epochs", str(epochs)]
        words += ["--trainer.accelerator", accelerator, "--seed_everything", str(seed)]
        words += [] if data_dir is None else ["--data.data_dir", data_dir]
        say(f"training    {backbone} on {data} by SGD and by SAM, {epochs} epochs each")
        pairs = list(zip(("SGD", "SAM"), train_both(out.folder / "runs", words, lr, rho), strict=True))
    runs = [rebuild(checkpoint, accelerator, trust) for _, checkpoint in pairs]
    check_same_network(runs[0].model, runs[1].model, [name for name, _ in pairs])
    line, grid = (np.linspace(-radius, radius, count).tolist() for count in (2 * points - 1, points))
    networks: dict[str, Any] = {}
    for (name, checkpoint), trained in zip(pairs, runs, strict=True):
        row = measure(trained, examples, line, grid, iterations, seed)
        networks[name] = {"checkpoint": str(checkpoint)} | row
        if row["residual"] > TOLERANCE * abs(row["top_eigenvalue"]):
            warn(f"{name}'s top eigenvalue is known only to {row['residual']:.1e}: raise --iterations")
    connection = connect(runs[0], runs[1], examples, points, seed)
    count = networks[pairs[0][0]]["examples"]
    title = f"Loss on {count:,} training images around the weights, filter-normalised directions"
    results = {"title": title, "seed": seed, "radius": radius, "line": line, "grid": grid, "networks": networks}
    results["between"] = connection
    pictures = ("landscape", "between", "relief")
    results["files"] = {name: f"{name}.png" for name in pictures} | {"results": "results.json"}
    draw_between([name for name, _ in pairs], connection).savefig(out.folder / "between.png", dpi=100)
    draw(networks, line, grid, title).savefig(out.folder / "landscape.png", dpi=100)
    draw_relief(networks, grid, title).savefig(out.folder / "relief.png", dpi=100)
    write_tensorboard(out.folder / "tensorboard", networks)
    print_rows(title, networks, "network", COLUMNS)
    barriers = ", ".join(f"{part} {barrier:.4f}" for part, barrier in zip(PARTS, connection["barriers"], strict=True))
    say(f"between     barrier of the loss on the line: {barriers}; distance {connection['distance']:.3f}")
    out.finish(results)
    out.watch(out.folder / "tensorboard")
    return results


def labels_of(checkpoints: list[Path]) -> list[str]:
    """Return two different names of checkpoints: run and file, or with numbers."""
    names = [f"{path.absolute().parent.parent.name}/{path.stem}" for path in checkpoints]
    return names if names[0] != names[1] else [f"{name} ({place})" for place, name in enumerate(names, 1)]


def connect(first: TrainedRun, second: TrainedRun, examples: int, points: int, seed: int) -> dict[str, Any]:
    """Return the losses between two networks, on images of the first one's data."""
    sets = [load(first, part, examples) for part in PARTS]
    model = first.model.double()

    def losses() -> list[float]:
        return [F.cross_entropy(model(images), labels).item() for images, labels in sets]

    result: dict[str, Any] = between(model, second.model.double().state_dict(), losses, points, seed)
    return result


def train_both(root: Path, words: list[str], lr: float, rho: float) -> tuple[Path, Path]:
    """Train with the same options of train.py by SGD and by SAM; return the last checkpoints."""
    shared = ["fit", *words, "--data.val_size", "0", "--trainer.enable_progress_bar", "false"]
    shared += ["--trainer.default_root_dir", str(root)]
    checkpoints = []
    sam = ["--optimizer", "SAM", "--optimizer.rho", str(rho)]
    for prefix, first in {"--optimizer": [], "--optimizer.base_optimizer": sam}.items():
        optimizer = [*first, prefix, "SGD", f"{prefix}.lr", str(lr), f"{prefix}.momentum", "0.9"]
        with contextlib.redirect_stdout(io.StringIO()):
            checkpoints.append(train.main([*shared, *optimizer]).run.checkpoint("last"))
    return checkpoints[0], checkpoints[1]


def measure(
    trained: TrainedRun, examples: int, line: list[float], grid: list[float], iterations: int, seed: int
) -> dict[str, Any]:
    """Return a network's accuracies, its losses along both directions and over the surface, and its top eigenvalue."""
    model = trained.model.double()  # the second derivatives are small differences
    images, labels = load(trained, "train", examples)
    test_images, test_labels = load(trained, "test", None)

    def loss() -> Tensor:
        return F.cross_entropy(model(images), labels)

    weights = list(model.parameters())
    directions = [filter_normalized(weights, seed=2 * seed + number) for number in range(2)]
    top = top_eigenvalue(loss, weights, iterations, TOLERANCE, seed)
    surface = losses_along(model, loss, directions, [(a, b) for b in grid for a in grid])
    with torch.no_grad():
        train_accuracy = (model(images).argmax(1) == labels).double().mean().item()
        test_accuracy = (model(test_images).argmax(1) == test_labels).double().mean().item()
        centre = loss().item()
    return {
        "examples": len(labels),
        "loss": centre,
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "top_eigenvalue": top.value,
        "residual": top.residual,
        "power_iterations": top.history,
        "mean_rise": float(np.mean(surface)) - centre,
        "line": [losses_along(model, loss, [direction], [(a,) for a in line]) for direction in directions],
        "surface": np.array(surface).reshape(len(grid), len(grid)).tolist(),
    }


def load(trained: TrainedRun, part: str, limit: int | None) -> tuple[Tensor, Tensor]:
    """Return images (float64) and labels of a part of the run's data, on the network's device."""
    trained.datamodule.setup("fit" if part == "train" else "test")
    loader = getattr(trained.datamodule, f"{part}_dataloader")()
    examples = (example for batch in loader for example in zip(*batch, strict=True))
    images, labels = (torch.stack(one) for one in zip(*itertools.islice(examples, limit), strict=True))
    return images.to(trained.model.device).double(), labels.to(trained.model.device)


def write_tensorboard(folder: Path, networks: dict[str, Any]) -> None:
    """Write curves: the loss along each direction by number of the point, and the eigenvalue by iteration."""
    for name, network in networks.items():
        curves = {f"direction_{number}": losses for number, losses in enumerate(network["line"], 1)}
        with SummaryWriter(str(folder / name)) as writer:
            for tag, values in (curves | {"top_eigenvalue": network["power_iterations"]}).items():
                for step, value in enumerate(values):
                    writer.add_scalar(f"landscape/{tag}", value, step)


main = experiment(run, words=lambda words: repeated(words, "checkpoints"))

if __name__ == "__main__":
    main()
