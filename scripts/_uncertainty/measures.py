"""The rows of the three tables, and what is drawn of them."""

from typing import Any, get_args

import torch
from torch import Tensor

from _uncertainty.outputs import Outputs
from evaluation.uncertainty import (
    ConformalSets,
    KNearestScore,
    aurc,
    energy,
    max_probability,
    risk_coverage,
    separation,
)
from evaluation.uncertainty.conformal import Method

Rows = dict[str, dict[str, Any]]


def conformal_rows(held: Outputs, test: Outputs, alpha: float, seed: int) -> tuple[Rows, dict[str, Tensor]]:
    """Return coverage and size of the sets of each method, and the sizes of all sets `[N]`."""
    rows, sizes = {}, {}
    for method in get_args(Method):
        sets = ConformalSets(alpha, method, seed=seed).fit(held.logits, held.labels, from_logits=True)
        inside = sets.predict(test.logits, from_logits=True)
        sizes[method] = inside.sum(1)
        rows[method] = {
            "coverage": float(inside.gather(1, test.labels[:, None]).double().mean()),
            "size": float(sizes[method].double().mean()),
            "largest": int(sizes[method].max()),
            "threshold": sets.threshold_,
        }
    return rows, sizes


def selective_rows(test: Outputs) -> tuple[dict[str, tuple[Tensor, Tensor]], Rows]:
    """Return the curve of risk over coverage of each confidence, and its row."""
    wrong = test.logits.argmax(1) != test.labels
    confidences = {"max probability": max_probability(test.logits), "energy": energy(test.logits)}
    curves, rows = {}, {}
    for name, confidence in confidences.items():
        coverage, risk = curves[name] = risk_coverage(confidence, wrong)
        at = {share: 1 - float(risk[int((coverage >= share / 100).nonzero()[0])]) for share in (80, 90, 100)}
        rows[name] = {
            "aurc": aurc(confidence, wrong),
            "accuracy": at[100],
            "accuracy_90": at[90],
            "accuracy_80": at[80],
        }
    return curves, rows


def outlier_rows(
    train: Outputs, test: Outputs, others: Outputs, k: int
) -> tuple[dict[str, tuple[Tensor, Tensor]], Rows]:
    """Return each score of the test images and of the others, and how well it separates them."""
    scores = {
        "max probability": (max_probability(test.logits), max_probability(others.logits)),
        "energy": (energy(test.logits), energy(others.logits)),
    }
    if train.features is not None and test.features is not None and others.features is not None:
        nearest = KNearestScore(k).fit(train.features)
        scores[f"{k}th nearest feature"] = nearest(test.features), nearest(others.features)
    for name, (inside, outside) in scores.items():
        if not (torch.isfinite(inside).all() and torch.isfinite(outside).all()):
            raise ValueError(f"the {name} of an image is not finite: the network's outputs are NaN or infinite")
    return scores, {name: separation(*pair) for name, pair in scores.items()}
