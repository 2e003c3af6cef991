"""What penalties do: to a polynomial, to two weights, and to a deep network.

    python scripts/regularization.py
    python scripts/regularization.py --data mnist                      # the networks on MNIST from DATA_DIR
    python scripts/regularization.py --parts '[polynomial, geometry]'  # seconds

polynomial: degree 30 through 50 noisy points, without a penalty, with L2 and with L1. geometry: the smallest loss
within the L1 and within the L2 ball. network: a deep perceptron on 300 images, with and without weight decay, L1 and
dropout. The output folder gets ``results.json``, a PNG for each part, and ``tensorboard/`` with the networks' curves.
"""

from pathlib import Path
from typing import Any, Literal

from _common.command_line import run_command_line
from _common.console import print_files, print_rows, say
from _common.digit_images import Source
from _common.runs import new_run, shell, write_json
from _regularization import norm_balls, polynomial_fits, regularized_networks
from _regularization.regularized_networks import EXAMPLES, Strengths

Part = Literal["polynomial", "geometry", "network"]


def run(
    parts: tuple[Part, ...] = ("polynomial", "geometry", "network"),
    data: Source = "digits",
    data_dir: str | None = None,
    epochs: int = 100,
    repeats: int = 3,
    weight_decay: float = 0.01,
    l1: float = 3e-4,
    dropout: float = 0.1,
    radius: float = norm_balls.RADIUS,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Show what L1, L2, weight decay and dropout do.

    Args:
        parts: Which experiments.
        data: What the networks learn: digits (scikit-learn's, no download) or mnist.
        data_dir: Folder that MNIST lies in; by default the environment's DATA_DIR, else data.
        epochs: Of each network.
        repeats: Networks of each kind, with the seeds from seed on.
        weight_decay: Of SGD, for the networks that have it.
        l1: Factor of the sum of the weights' absolute values, for the networks that have it.
        dropout: Probability of dropping a hidden value, for the networks that have it.
        radius: Of the norm balls.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the noise on the points, and of the first networks.

    Returns:
        What results.json holds.
    """
    for name, value in (("epochs", epochs), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, found {value}")
    if radius <= 0:
        raise ValueError(f"--radius must be greater than 0, found {radius}")
    if not parts:
        raise ValueError("--parts names no experiment: give one or more of polynomial, geometry, network")
    folder = output or new_run("runs")
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"seed": seed}
    files: dict[str, str] = {}
    if "polynomial" in parts:
        results["polynomial"] = polynomial(folder, seed)
        files["polynomial"] = "polynomial.png"
    if "geometry" in parts:
        results["geometry"] = geometry(folder, radius)
        files["geometry"] = "geometry.png"
    if "network" in parts:
        strengths = Strengths(weight_decay, l1, dropout)
        results["network"] = network(data, data_dir, epochs, repeats, strengths, folder, seed)
        files["network"] = "network.png"
    results["files"] = files | {"results": "results.json"}
    write_json(folder / "results.json", results)
    print_files(folder, results["files"])
    if "network" in parts:
        say(f"watch       {shell('tensorboard', '--logdir', folder)}")
    return results


def polynomial(folder: Path, seed: int) -> dict[str, Any]:
    """Part (a): print and draw the three polynomials."""
    found, rows = polynomial_fits.polynomials(seed)
    polynomial_fits.figure(found, rows, seed).savefig(folder / "polynomial.png", dpi=100)
    print_rows("coefficients, for x as it is", polynomial_fits.table(found), "of")
    columns = {
        "rmse_on_points": "error on the points",
        "rmse_on_true_curve": "error on the true curve",
        "largest_error_on_true_curve": "largest there",
        "coefficients_not_0": "coefficients not 0",
    }
    print_rows(
        "root mean square errors",
        {name: {label: row[key] for key, label in columns.items()} for name, row in rows.items()},
    )
    nearest = min(rows, key=lambda name: rows[name]["rmse_on_true_curve"])
    say(f"nearest to the true curve: {polynomial_fits.TITLES[nearest]}")
    return {"fits": rows, "nearest_to_true_curve": nearest}


def geometry(folder: Path, radius: float) -> dict[str, Any]:
    """Part (b): print and draw both balls."""
    loss, results = norm_balls.geometry(radius)
    norm_balls.figure(loss, results).savefig(folder / "geometry.png", dpi=100)
    rows = {
        name: dict(zip(norm_balls.NAMES, row["w"], strict=True)) | {"loss": row["loss"]}
        for name, row in results["optima"].items()
    }
    print_rows(f"smallest loss within a radius of {radius:g}", rows, "norm")
    return results


def network(
    data: Source, data_dir: str | None, epochs: int, repeats: int, strengths: Strengths, folder: Path, seed: int
) -> dict[str, Any]:
    """Part (c): train, print and draw the networks."""
    rows = regularized_networks.networks(data, data_dir, epochs, repeats, strengths, folder, seed)
    title = f"{EXAMPLES} images of {data}, {epochs} epochs, mean and range of {repeats} run{'s' if repeats > 1 else ''}"
    regularized_networks.figure(rows, title).savefig(folder / "network.png", dpi=100)
    columns = {"strength": "strength", "train_accuracy": "train", "test_accuracy": "test", "gap": "gap"}
    columns |= {"test_deviation": "test, deviation"} if repeats > 1 else {}
    table = {name: {label: row[key] for key, label in columns.items()} for name, row in rows.items()}
    print_rows(f"accuracy after training: {title}", table)
    return {"data": data, "images": EXAMPLES, "epochs": epochs, "repeats": repeats, "variants": rows}


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    return run_command_line(run, args)


if __name__ == "__main__":
    main()
