"""The minimum that SGD ends in beside the one of SAM: how the loss rises around them, and how it is curved.

    python scripts/landscape.py                                  # trains both on scikit-learn's digits first
    python scripts/landscape.py --data mnist --epochs 3
    python scripts/landscape.py --sgd RUN/checkpoints/last.ckpt --sam RUN/checkpoints/last.ckpt

The loss on training images, in evaluation mode, along two random directions that are scaled filter by filter, drawn
from the same numbers for both networks (biases and normalisation layers are not moved); and the largest eigenvalue of
its Hessian over all parameters. The output folder gets ``results.json``, ``landscape.png``, ``relief.png``,
``tensorboard/``, and ``runs/`` with what was trained.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import train
from _common.command_line import run_command_line, warn
from _common.console import print_files, print_rows, say
from _common.digit_images import Source
from _common.rebuild import TrainedRun, rebuild
from _common.runs import new_run, shell, write_json
from _landscape.figure import figure, relief
from _landscape.hessian import top_eigenvalue
from _landscape.surface import filter_normalized, losses_along

TOLERANCE = 1e-3
"""Of the top eigenvalue, as a share of it."""
DATA = {"digits": "DigitsDataModule", "mnist": "MNISTDataModule"}


def run(
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
) -> dict[str, Any]:
    """Compare the loss around two trained networks.

    Args:
        sgd: The first checkpoint of a run of train.py; without both, both are trained first.
        sam: The second.
        data: What is trained on: digits (scikit-learn's, no download) or mnist.
        data_dir: Folder that MNIST lies in; by default the environment's DATA_DIR, else data.
        backbone: What is trained.
        epochs: Of both trainings.
        lr: Learning rate of both trainings, with momentum 0.9.
        rho: Radius of SAM's neighbourhood.
        examples: Training images that the loss is computed on, at most.
        radius: The largest multiple of the directions.
        points: Points on each side of the surface.
        iterations: The largest number of power iterations.
        accelerator: Lightning's name of the device.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the trainings, the directions and the power iteration.

    Returns:
        What results.json holds.
    """
    for name, value, least in (("epochs", epochs, 1), ("examples", examples, 1), ("points", points, 2)):
        if value < least:
            raise ValueError(f"--{name} must be at least {least}, found {value}")
    if radius <= 0:
        raise ValueError(f"--radius must be greater than 0, found {radius}")
    if (sgd is None) != (sam is None):
        raise ValueError("give two checkpoints, --sgd and --sam, or none to train both")
    folder = output or new_run("runs")
    if sgd is None or sam is None:
        sgd, sam = train_both(folder / "runs", data, data_dir, backbone, epochs, lr, rho, accelerator, seed)
    line, grid = steps(radius, 2 * points - 1), steps(radius, points)
    networks: dict[str, Any] = {}
    for name, checkpoint in (("SGD", sgd), ("SAM", sam)):
        networks[name] = {"checkpoint": str(checkpoint)} | look(
            rebuild(checkpoint, accelerator), examples, line, grid, iterations, seed
        )
        row = networks[name]
        if row["residual"] > TOLERANCE * abs(row["top_eigenvalue"]):
            warn(f"{name}'s top eigenvalue is known to {row['residual']:.1e} only: raise --iterations")
    used = networks["SGD"]["examples"]
    title = f"Loss on {used:,} training images around the weights, filter-normalised directions"
    files = {"figure": "landscape.png", "relief": "relief.png", "results": "results.json"}
    results = {"title": title, "seed": seed, "radius": radius, "line": line, "grid": grid}
    results |= {"networks": networks, "files": files}
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"landscape.png": figure(networks, line, grid, title), "relief.png": relief(networks, grid, title)}
    for file, drawing in pictures.items():
        drawing.savefig(folder / file, dpi=100)
    write_tensorboard(folder / "tensorboard", networks)
    write_json(folder / "results.json", results)
    report(results, folder)
    return results


def train_both(
    root: Path,
    data: Source,
    data_dir: str | None,
    backbone: str,
    epochs: int,
    lr: float,
    rho: float,
    accelerator: str,
    seed: int,
) -> tuple[Path, Path]:
    """Train a network by SGD and one by SAM, alike but for that; return their last checkpoints."""
    words = ["fit", "--data", DATA[data], "--data.val_size", "0", "--model.backbone", backbone]
    words += ["--trainer.max_epochs", str(epochs), "--trainer.enable_progress_bar", "false"]
    words += ["--trainer.accelerator", accelerator, "--trainer.default_root_dir", str(root)]
    words += ["--seed_everything", str(seed)]
    words += [] if data_dir is None else ["--data.data_dir", data_dir]
    checkpoints = []
    for name, prefix in (("SGD", "--optimizer"), ("SAM", "--optimizer.base_optimizer")):
        optimizer = [prefix, "SGD", f"{prefix}.lr", str(lr), f"{prefix}.momentum", "0.9"]
        if name == "SAM":
            optimizer = ["--optimizer", "SAM", "--optimizer.rho", str(rho), *optimizer]
        say(f"training    {backbone} on {data} by {name}, {epochs} epochs")
        with contextlib.redirect_stdout(io.StringIO()):
            checkpoints.append(train.main([*words, *optimizer]).run_folder / "checkpoints" / "last.ckpt")
    return checkpoints[0], checkpoints[1]


def steps(radius: float, points: int) -> list[float]:
    """Multiples from -radius to radius."""
    return [float(value) for value in np.linspace(-radius, radius, points)]


def look(
    trained: TrainedRun, examples: int, line: list[float], grid: list[float], iterations: int, seed: int
) -> dict[str, Any]:
    """What is around a network's weights."""
    model = trained.model.double()  # the second derivatives are small differences
    images, labels = some(trained, "train", examples)

    def loss() -> Tensor:
        return F.cross_entropy(model(images), labels)

    weights = list(model.parameters())
    directions = [filter_normalized(weights, seed=2 * seed + number) for number in range(2)]
    top = top_eigenvalue(loss, weights, iterations, TOLERANCE, seed)
    surface = losses_along(model, loss, directions, [(a, b) for b in grid for a in grid])
    with torch.no_grad():
        correct = (model(images).argmax(1) == labels).double().mean().item()
        test_images, test_labels = some(trained, "test", None)
        test = (model(test_images).argmax(1) == test_labels).double().mean().item()
        here = loss().item()
    return {
        "examples": len(labels),
        "loss": here,
        "train_accuracy": correct,
        "test_accuracy": test,
        "top_eigenvalue": top.value,
        "residual": top.residual,
        "power_iterations": top.history,
        "mean_rise": float(np.mean(surface)) - here,
        "line": [losses_along(model, loss, [direction], [(a,) for a in line]) for direction in directions],
        "surface": np.array(surface).reshape(len(grid), len(grid)).tolist(),
    }


def some(trained: TrainedRun, part: str, limit: int | None) -> tuple[Tensor, Tensor]:
    """Images and labels of a part of the run's own data, float64, on the network's device."""
    data = trained.datamodule
    data.setup("fit" if part == "train" else "test")
    images, labels, count = [], [], 0
    for batch, target in getattr(data, f"{part}_dataloader")():
        images.append(batch)
        labels.append(target)
        count += len(target)
        if limit is not None and count >= limit:
            break
    device = trained.model.device
    return torch.cat(images)[:limit].to(device).double(), torch.cat(labels)[:limit].to(device)


def write_tensorboard(folder: Path, networks: dict[str, Any]) -> None:
    """The curves: the loss along the directions by number of the point, and the eigenvalue by iteration."""
    for name, network in networks.items():
        with SummaryWriter(str(folder / name)) as writer:
            for number, losses in enumerate(network["line"]):
                for step, value in enumerate(losses):
                    writer.add_scalar(f"landscape/direction_{number + 1}", value, step)
            for step, value in enumerate(network["power_iterations"]):
                writer.add_scalar("landscape/top_eigenvalue", value, step)


def report(results: dict[str, Any], folder: Path) -> None:
    """Print the table, and where the files are."""
    columns = {
        "train_accuracy": "train accuracy",
        "test_accuracy": "test accuracy",
        "loss": "training loss",
        "mean_rise": "mean rise over the surface",
        "top_eigenvalue": "top Hessian eigenvalue",
        "residual": "its residual",
    }
    rows = {name: {label: row[key] for key, label in columns.items()} for name, row in results["networks"].items()}
    print_rows(results["title"], rows, "network")
    print_files(folder, results["files"])
    say(f"watch       {shell('tensorboard', '--logdir', folder / 'tensorboard')}")


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line(run, args)


if __name__ == "__main__":
    main()
