"""An eli5 explanation of a network's prediction for one row.

Signed weights of named features in eli5's form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from eli5.base import Explanation, FeatureWeight, FeatureWeights, TargetExplanation
from torch import Tensor, nn

from ..calibration.inputs import as_tensor
from .integrated_gradients import Attribution, integrated_gradients
from .network import display_names, find_target, probabilities, top_targets_of, undisturbed

Top = int | tuple[int, int] | None


def weights_of(
    features: Sequence[str], weights: npt.NDArray[Any], values: Sequence[float] | None, top: Top
) -> FeatureWeights:
    """Put signed weights into eli5's form: the greatest first, zeros left out, the rest counted.

    Raises:
        ValueError: If ``top`` is not a number or a pair of numbers.
    """
    numbers = (top,) if isinstance(top, int) else (top or ())
    if isinstance(top, bool) or not all(isinstance(n, int) and n >= 0 for n in numbers) or len(numbers) > 2:
        raise ValueError(f"top must be a number, a pair (positive, negative) or None, got {top!r}")
    order = np.argsort(-np.abs(weights), kind="stable")
    if isinstance(top, int):
        kept = [i for i in order if weights[i] != 0][:top]
    else:
        positive, negative = (None, None) if top is None else tuple(top)
        kept = [i for i in order if weights[i] > 0][:positive] + [i for i in order if weights[i] < 0][:negative]

    def feature(i: int) -> FeatureWeight:
        return FeatureWeight(features[i], float(weights[i]), value=None if values is None else values[i])

    pos, neg = ([feature(i) for i in kept if weights[i] * sign > 0] for sign in (1, -1))
    return FeatureWeights(
        pos,
        neg,
        pos_remaining=int((weights > 0).sum()) - len(pos),
        neg_remaining=int((weights < 0).sum()) - len(neg),
    )


BIAS = "<BIAS>"  # eli5's name of what no feature contributes


class RowExplanation(Explanation):
    """An eli5 explanation with how near its contributions are to complete.

    Attributes:
        differences: For each target, the sum of all contributions minus the score.
        steps: For each target, the points at which gradients were taken.
    """

    differences: dict[Any, float]
    steps: dict[Any, int]


def explain_row(
    model: nn.Module,
    row: Tensor | npt.ArrayLike,
    *,
    feature_names: Sequence[str] | None = None,
    targets: Sequence[Any] | None = None,
    top_targets: int | None = None,
    target_names: Sequence[Any] | Mapping[Any, Any] | None = None,
    top: Top = None,
    baseline: Tensor | npt.ArrayLike | float = 0.0,
    is_regression: bool | None = None,
    max_steps: int = 65536,
) -> RowExplanation:
    """Explain the prediction for a row by signed contributions of its features.

    The contributions are those of integrated gradients
    (:func:`evaluation.explanation.integrated_gradients.integrated_gradients`) from the
    baseline; with ``<BIAS>``, the baseline's own score, they sum to the score. This is
    what ``eli5.explain_prediction(model, row)`` calls.

    Args:
        model: Maps ``[N, D]`` to scores ``[N, K]`` or ``[N]``.
        row: ``[D]`` or ``[1, D]``; the index of a pandas series gives the names.
        feature_names: ``D`` names.
        targets: Which scores, by index or by name; by default the highest one.
        top_targets: Instead: so many of the highest scores (of the lowest ones, if negative).
        target_names: ``K`` names, or new names by index.
        top: Show so many features, those of greatest contribution, or ``(positive, negative)`` ones.
        baseline: A number or a row from which contributions are counted.
        is_regression: The scores are values and no logits; by default where there is only one.
        max_steps: Greatest number of points at which gradients are taken.

    Returns:
        The explanation; its ``description`` and ``differences`` say how much is missing from completeness.

    Raises:
        ValueError: If an argument has a bad value.
    """
    index: Any = getattr(row, "index", None) if hasattr(row, "iloc") else None
    own = None if index is None else list(index)
    values = as_tensor(row)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != 1 or values.shape[1] == 0:
        raise ValueError(f"give one row [D] or [1, D], got shape {list(values.shape)}: explain the rows one by one")
    default = [f"x{i}" for i in range(values.shape[1])]
    names = [str(name) for name in (own or default if feature_names is None else feature_names)]
    if len(names) != values.shape[1]:
        raise ValueError(f"feature_names must name each of the {values.shape[1]} features, got {len(names)} names")
    with undisturbed(model) as network, torch.no_grad():
        scores = network.scores(network.place(values)).cpu().double()[0]
    is_regression = len(scores) == 1 if is_regression is None else is_regression
    shown = display_names(len(scores), target_names, is_regression)
    if targets is not None and top_targets is not None:
        raise ValueError("give targets or top_targets, not both")
    if targets is not None:
        chosen = [find_target(target, shown) for target in targets]
    else:
        chosen = top_targets_of(scores, 1 if top_targets is None else top_targets)
    if not chosen:
        raise ValueError("targets must name at least one target, got none")
    proba = None if is_regression else probabilities(scores)
    found = integrated_gradients(
        model, values.expand(len(chosen), -1), chosen, baseline=baseline, max_steps=max_steps, batch_size=512
    )
    explained = [
        TargetExplanation(
            shown[index],
            feature_weights=_weights(names, found, place, values[0].double().cpu().numpy(), top),
            proba=None if proba is None else float(proba[index]),
            score=float(scores[index]),
        )
        for place, index in enumerate(chosen)
    ]
    explanation = RowExplanation(
        estimator=type(model).__name__,
        method="integrated gradients",
        description=_description(found, [shown[index] for index in chosen]),
        targets=explained,
        is_regression=is_regression,
    )
    explanation.differences = {shown[index]: float(found.difference[i]) for i, index in enumerate(chosen)}
    explanation.steps = {shown[index]: int(found.steps[i]) for i, index in enumerate(chosen)}
    return explanation


def _weights(names: list[str], found: Attribution, place: int, values: npt.NDArray[Any], top: Top) -> FeatureWeights:
    weights = found.values[place].numpy()
    features = [*names, BIAS]
    contributions = np.append(weights, float(found.baseline_score[place]))
    return weights_of(features, contributions, [*values.tolist(), 1.0], top)


def _description(found: Attribution, shown: list[Any]) -> str:
    lines = [f"Contributions of the features to the score, which with {BIAS}, the baseline's score, they sum to."]
    for i, (name, complete) in enumerate(zip(shown, found.complete().tolist(), strict=True)):
        gap = f"{float(found.difference[i]):+.2e} remains after {int(found.steps[i])} steps"
        lines.append(f"{name}: {gap}" + ("" if complete else ", which is MORE than 1e-3 of what is explained"))
    return "\n".join(lines)
