"""Calibrated and uncalibrated support vector machines on generated data: `calibrate.py` without a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from evaluation import bootstrap_interval, brier_score, calibration_error, negative_log_likelihood

Array = npt.NDArray[np.float64]
FOLDS = 5


def calibrate_svm(folder: Path, replicates: int, **options: Any) -> dict[str, Any]:
    """Fit the machines, draw their calibration curves, and return the results."""
    inputs, labels = make_classification(
        n_samples=20_000, n_features=20, n_informative=2, n_redundant=10, random_state=42
    )
    x, x_test, y, y_test = train_test_split(inputs, labels, test_size=0.9, random_state=42)
    fits = {"SVC": naive(x, y, x_test)}
    for name, method in {"Platt": "sigmoid", "isotonic": "isotonic", "temperature": "temperature"}.items():
        model = CalibratedClassifierCV(SVC(), method=method, cv=FOLDS).fit(x, y)
        fits[f"SVC + {name}"] = model.predict_proba(x_test)[:, 1], model.predict(x_test), fitted(model, method)
    target = torch.from_numpy(y_test).long()
    methods = {}
    for name, (p, predicted, parameters) in fits.items():
        methods[name] = {
            "nll": float(negative_log_likelihood(p, target)),
            "ece": float(calibration_error(p, target, **options)),
            "ece_interval": list(bootstrap_interval(calibration_error, p, target, replicates=replicates, **options)),
            "brier": float(brier_score(p, target)),
            "accuracy": float(np.mean(predicted == y_test)),
            "parameters": parameters,
        }
    folder.mkdir(parents=True, exist_ok=True)
    figure({name: p for name, (p, _, _) in fits.items()}, y_test, methods).savefig(folder / "calibration.png")
    return {
        "title": f"{len(y):,} samples to fit, {len(y_test):,} to test; probability of class 1",
        **options,
        "methods": methods,
        "files": {"figure": "calibration.png", "results": "results.json"},
    }


def naive(x: Array, y: Array, x_test: Array) -> tuple[Array, Array, str]:
    """Fit a machine without calibration; return probabilities of class 1, predicted classes and the fitted range.

    The probabilities are decision values, rescaled from their range in training to [0, 1].
    """
    model = SVC().fit(x, y)
    values = model.decision_function(x)
    low, high = float(values.min()), float(values.max())
    p = np.clip((model.decision_function(x_test) - low) / (high - low), 0, 1)
    return p, model.predict(x_test), f"({low:.2f}, {high:.2f}) stretched to (0, 1)"


def fitted(model: CalibratedClassifierCV, method: str) -> str:
    """Return a summary of the parameters that were fitted in each fold."""
    calibrators = [fold.calibrators[0] for fold in model.calibrated_classifiers_]
    if method == "sigmoid":
        slopes, intercepts = [-c.a_ for c in calibrators], [-c.b_ for c in calibrators]
        return f"{FOLDS} folds, mean slope {np.mean(slopes):.3f}, intercept {np.mean(intercepts):.3f}"
    if method == "temperature":
        return f"{FOLDS} folds, mean temperature {np.mean([1 / float(c.beta_) for c in calibrators]):.3f}"
    return f"{FOLDS} folds, mean of {np.mean([len(c.X_thresholds_) for c in calibrators]):.0f} thresholds"


def figure(probabilities: dict[str, Array], labels: Array, methods: dict[str, Any]) -> Figure:
    """Draw the calibration curves of all methods, and below them the histogram of each."""
    drawing = Figure(figsize=(8, 8.5), dpi=100, layout="constrained")
    FigureCanvasAgg(drawing)
    places = drawing.add_gridspec(3, len(probabilities), height_ratios=(4, 1.2, 0.05))
    curves = drawing.add_subplot(places[0, :])
    curves.plot([0, 1], [0, 1], "--", color="#777777", linewidth=1, label="calibrated")
    colours = ("#222222", "#4878a8", "#c1272d", "#3f8f4f")
    for column, (colour, (name, p)) in enumerate(zip(colours, probabilities.items(), strict=True)):
        share, confidence = calibration_curve(labels, p, n_bins=10)
        label = f"{name} (Brier {methods[name]['brier']:.4f})"
        curves.plot(confidence, share, "o-", color=colour, markersize=4, linewidth=1.4, label=label)
        histogram = drawing.add_subplot(places[1, column])
        histogram.hist(p, bins=20, range=(0, 1), color=colour)
        histogram.set_title(name, fontsize=9)
        histogram.set_xlabel("probability of class 1", fontsize=8)
        histogram.set_ylabel("" if column else "samples", fontsize=8)
        histogram.tick_params(labelsize=8)
    curves.set(xlabel="mean probability of class 1", ylabel="share of class 1", title="Calibration curves, 10 bins")
    curves.legend(fontsize=9, loc="upper left")
    return drawing
