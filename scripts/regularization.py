"""Show the effect of penalties on a polynomial, on a two-parameter fit, and on a deep network.

    python scripts/regularization.py
    python scripts/regularization.py --data mnist                      # the networks on MNIST from DATA_DIR
    python scripts/regularization.py --parts '[polynomial, geometry]'  # seconds
    python scripts/regularization.py --csv FILE.csv --target price --feature area --degree 12

polynomial: degree 30 through 50 noisy points, without a penalty, with L2 and with L1; with --csv, through the points of
two columns of your file (feature and target scaled), of which a quarter is held out to measure errors. geometry: the
smallest loss within the L1 and within the L2 ball. network: a deep perceptron on 300 images, with and without weight
decay, L1 and dropout. The output folder gets `results.json`, a PNG for each part, and `tensorboard/` with the networks'
curves.
"""

from pathlib import Path
from typing import Any, Literal

from _common.cli import at_least, experiment
from _common.console import print_rows, say
from _common.digit_images import Source
from _common.run import Run
from _regularization import norm_balls, own_points, polynomial_fits, regularized_networks
from _regularization.polynomial_fits import DEGREE
from _regularization.regularized_networks import EXAMPLES

Part = Literal["polynomial", "geometry", "network"]
COLUMNS = {
    "rmse_on_points": "error on the points",
    "rmse_on_true_curve": "error on the true curve",
    "largest_error_on_true_curve": "largest error on it",
    "coefficients_not_0": "non-zero coefficients",
}


def run(
    parts: tuple[Part, ...] | None = None,
    csv: Path | None = None,
    target: str = "-1",
    feature: str | None = None,
    degree: int = DEGREE,
    data: Source = "digits",
    data_dir: str | None = None,
    epochs: int = 100,
    repeats: int = 3,
    weight_decay: float = 0.01,
    l1: float = 3e-4,
    dropout: float = 0.1,
    radius: float = 0.2,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Show the effect of L1, L2, weight decay and dropout; return the contents of results.json.

    Args:
        parts: Experiments to run, such as [polynomial,geometry]; by default all three, or polynomial with --csv.
        csv: CSV file with the points of the polynomial.
        target: Name or number of the file's column to predict; -1 is the last.
        feature: Name of the column to predict it from; needed if there are several.
        degree: Degree of the polynomial, 1 to 100.
        data: Training data of the networks: digits (scikit-learn's, no download) or mnist.
        data_dir: Folder of MNIST; by default the environment variable DATA_DIR, or data if it is not set.
        epochs: Training epochs of each network.
        repeats: Number of networks of each variant, with consecutive seeds.
        weight_decay: Weight decay of SGD, in its variant.
        l1: Factor of the L1 norm of the weights in the loss, in its variant.
        dropout: Probability of dropping a hidden unit, in its variant.
        radius: Radius of the norm balls.
        output: Output folder; by default a new one under runs/.
        seed: Random seed of the noise on the points and of the first networks.
    """
    at_least(1, epochs=epochs, repeats=repeats)
    if not 1 <= degree <= 100:
        raise ValueError(f"--degree must be 1 to 100, found {degree}")
    if csv is None and (target != "-1" or feature is not None):
        raise ValueError("--target and --feature describe a CSV file: add --csv FILE")
    if parts is None:
        parts = ("polynomial", "geometry", "network") if csv is None else ("polynomial",)
    at_least(0, weight_decay=weight_decay, l1=l1, dropout=dropout)
    if dropout >= 1:
        raise ValueError(f"--dropout must be less than 1, found {dropout}")
    if radius <= 0:
        raise ValueError(f"--radius must be greater than 0, found {radius}")
    if not parts:
        raise ValueError("--parts names no experiment: give one or more of polynomial, geometry, network")
    points = None if csv is None else own_points.read_points(csv, target, feature, seed)
    out = Run.at(output)
    results: dict[str, Any] = {"seed": seed}
    if "polynomial" in parts:
        results["polynomial"] = (
            polynomial(out.folder, seed, degree) if points is None else own(out.folder, points, degree)
        )
    if "geometry" in parts:
        results["geometry"] = geometry(out.folder, radius)
    if "network" in parts:
        strengths = {"weight decay": weight_decay, "L1": l1, "dropout": dropout}
        results["network"] = network(data, data_dir, epochs, repeats, strengths, out.folder, seed)
    results["files"] = {part: f"{part}.png" for part in results if part != "seed"} | {"results": "results.json"}
    out.finish(results)
    if "network" in parts:
        out.watch()
    return results


def own(folder: Path, points: own_points.Points, degree: int) -> dict[str, Any]:
    """Fit, print and draw the three polynomials through the points of a file."""
    curves, rows = own_points.fit_all(points, degree)
    own_points.draw(points, curves, rows, degree).savefig(folder / "polynomial.png", dpi=100)
    feature, target = points.names
    fitted, held_out = int((~points.held_out).sum()), int(points.held_out.sum())
    title = f"{target} from {feature}, degree {degree}: {fitted:,} points fitted, {held_out:,} held out"
    columns = {"rmse_on_points": "error on the points", "rmse_held_out": "error held out"}
    print_rows(title, rows, "penalty", columns | {"coefficients_not_0": "non-zero coefficients"})
    return {
        "feature": feature,
        "target": target,
        "degree": degree,
        "points": fitted,
        "held_out": held_out,
        "fits": rows,
    }


def polynomial(folder: Path, seed: int, degree: int) -> dict[str, Any]:
    """Fit, print and draw the three polynomials."""
    fits, rows = polynomial_fits.fit_all(seed, degree)
    polynomial_fits.draw(fits, rows, seed).savefig(folder / "polynomial.png", dpi=100)
    print_rows("coefficients of the powers of x", polynomial_fits.table(fits), "power")
    print_rows("root mean square errors", rows, "penalty", COLUMNS)
    nearest = min(rows, key=lambda name: rows[name]["rmse_on_true_curve"])
    say(f"nearest to the true curve: {polynomial_fits.TITLES[nearest]}")
    return {"fits": rows, "nearest_to_true_curve": nearest}


def geometry(folder: Path, radius: float) -> dict[str, Any]:
    """Compute, print and draw the constrained optima."""
    loss, results = norm_balls.geometry(radius)
    norm_balls.draw(loss, results).savefig(folder / "geometry.png", dpi=100)
    rows = {
        name: dict(zip(norm_balls.NAMES, row["w"], strict=True)) | {"loss": row["loss"]}
        for name, row in results["optima"].items()
    }
    print_rows(f"smallest loss within a radius of {radius:g}", rows, "norm")
    return results


def network(
    data: Source, data_dir: str | None, epochs: int, repeats: int, strengths: dict[str, float], folder: Path, seed: int
) -> dict[str, Any]:
    """Train, print and draw the networks."""
    rows = regularized_networks.train_all(data, data_dir, epochs, repeats, strengths, folder, seed)
    title = f"{EXAMPLES} images of {data}, {epochs} epochs, mean and range of {repeats} run{'s' if repeats > 1 else ''}"
    regularized_networks.draw(rows, title).savefig(folder / "network.png", dpi=100)
    columns = {"strength": "strength", "train_accuracy": "train", "test_accuracy": "test", "gap": "gap"}
    columns |= {"test_deviation": "test, sd"} if repeats > 1 else {}
    print_rows(f"accuracy after training: {title}", rows, "regularization", columns)
    return {"data": data, "images": EXAMPLES, "epochs": epochs, "repeats": repeats, "variants": rows}


main = experiment(run)

if __name__ == "__main__":
    main()
