"""An eli5 explanation of a network's prediction for one row: signed weights of named features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from eli5.base import Explanation, FeatureWeight, FeatureWeights, TargetExplanation
from torch import Tensor, nn

from ..checks import Array, as_tensor
from .integrated_gradients import Attribution, integrated_gradients
from .network import display_names, eval_mode, find_target, probabilities

Top = int | tuple[int, int] | None
BIAS = "<BIAS>"  # eli5's name for what no feature contributes


class RowExplanation(Explanation):
    """An eli5 explanation that reports how close its contributions are to complete.

    Attributes:
        differences: For each target, the sum of all contributions minus the score.
        steps: For each target, the number of points at which gradients were computed.
    """

    differences: dict[Any, float]
    steps: dict[Any, int]


def explain_row(
    model: nn.Module,
    row: Array,
    *,
    feature_names: Sequence[str] | None = None,
    targets: Sequence[Any] | None = None,
    top_targets: int | None = None,
    target_names: Sequence[Any] | Mapping[Any, Any] | None = None,
    top: Top = None,
    baseline: Array = 0.0,
    is_regression: bool | None = None,
    max_steps: int = 65536,
) -> RowExplanation:
    """Explain the prediction for a row by signed contributions of its features.

    The contributions are integrated gradients (`evaluation.explanation.integrated_gradients`) from the baseline; with
    `<BIAS>`, the baseline's own score, they sum to the score. `eli5.explain_prediction(model, row)` calls this
    function.

    Args:
        model: Maps `[N, D]` to scores `[N, K]` or `[N]`.
        row: `[D]` or `[1, D]`; a pandas series or frame provides the names.
        feature_names: `D` names.
        targets: The scores to explain, by index or by name; by default the highest one.
        top_targets: Number of the highest scores to explain instead, or of the lowest ones if negative.
        target_names: `K` names, or new names by index.
        top: Number of features to show, those of greatest contribution, or a pair `(positive, negative)`.
        baseline: The number or row relative to which contributions are counted.
        is_regression: Whether the scores are values rather than logits; by default if there is only one.
        max_steps: Maximum number of points at which gradients are computed.

    Returns:
        The explanation; its `description` and `differences` report the error of completeness.

    Raises:
        ValueError: If an argument has a bad value.
    """
    values = as_tensor(row)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != 1 or values.shape[1] == 0:
        raise ValueError(f"row must be [D] or [1, D], found shape {list(values.shape)}: explain the rows one by one")
    names = _feature_names(row, feature_names, values.shape[1])
    with eval_mode(model) as network, torch.no_grad():
        scores = network.scores(network.place(values)).cpu().double()[0]
    is_regression = len(scores) == 1 if is_regression is None else is_regression
    titles = display_names(len(scores), target_names, is_regression)
    if targets is not None and top_targets is not None:
        raise ValueError("pass targets or top_targets, not both")
    count = 1 if top_targets is None else top_targets
    if isinstance(count, bool) or not isinstance(count, int) or count == 0:
        raise ValueError(f"top_targets must be an integer other than 0, found {count!r}")
    chosen = scores.topk(min(abs(count), len(scores)), largest=count > 0).indices.tolist()
    if targets is not None:
        chosen = [find_target(target, titles) for target in targets]
    if not chosen:
        raise ValueError("targets must name at least one target, found none")
    proba = probabilities(scores)
    attribution = integrated_gradients(
        model, values.expand(len(chosen), -1), chosen, baseline=baseline, max_steps=max_steps, batch_size=512
    )
    shown_values = [*values[0].double().cpu().tolist(), 1.0]
    explained = []
    for i, index in enumerate(chosen):
        contributions = np.append(attribution.values[i].numpy(), float(attribution.baseline_score[i]))
        weights = weights_of([*names, BIAS], contributions, shown_values, top)
        target = TargetExplanation(titles[index], feature_weights=weights, score=float(scores[index]))
        target.proba = None if is_regression else float(proba[index])
        explained.append(target)
    explanation = RowExplanation(
        estimator=type(model).__name__,
        method="integrated gradients",
        description=_description(attribution, [titles[index] for index in chosen]),
        targets=explained,
        is_regression=is_regression,
    )
    explanation.differences = {titles[index]: float(attribution.difference[i]) for i, index in enumerate(chosen)}
    explanation.steps = {titles[index]: int(attribution.steps[i]) for i, index in enumerate(chosen)}
    return explanation


def _feature_names(row: Any, given: Sequence[str] | None, count: int) -> list[str]:
    """Return the given names, those of a pandas frame or series, or numbers."""
    own = getattr(row, "columns", row.index if hasattr(row, "iloc") else None)
    names = given if given is not None else [f"x{i}" for i in range(count)] if own is None else own
    if len(names) != count:
        raise ValueError(f"feature_names must name each of the {count} features, found {len(names)} names")
    return [str(name) for name in names]


def weights_of(
    features: Sequence[str], weights: npt.NDArray[Any], values: Sequence[float] | None, top: Top
) -> FeatureWeights:
    """Return signed weights in eli5's form, sorted by magnitude, zeros dropped, the number of omitted features kept."""
    numbers = (top,) if isinstance(top, int) else (top or ())
    if isinstance(top, bool) or not all(isinstance(n, int) and n >= 0 for n in numbers) or len(numbers) > 2:
        raise ValueError(f"top must be a number, a pair (positive, negative) or None, found {top!r}")
    order = np.argsort(-np.abs(weights), kind="stable")
    shown = order[weights[order] != 0][:top] if isinstance(top, int) else order
    counts = tuple(top) if top is not None and not isinstance(top, int) else (None, None)

    def feature(i: int) -> FeatureWeight:
        return FeatureWeight(features[i], float(weights[i]), value=None if values is None else values[i])

    pos = [feature(i) for i in shown if weights[i] > 0][: counts[0]]
    neg = [feature(i) for i in shown if weights[i] < 0][: counts[1]]
    pos_remaining, neg_remaining = int((weights > 0).sum()) - len(pos), int((weights < 0).sum()) - len(neg)
    return FeatureWeights(pos, neg, pos_remaining=pos_remaining, neg_remaining=neg_remaining)


def _description(attribution: Attribution[Tensor], titles: list[Any]) -> str:
    lines = [f"Contributions of the features; with {BIAS}, the score of the baseline, they sum to the score."]
    for i, (title, complete) in enumerate(zip(titles, attribution.complete().tolist(), strict=True)):
        gap = f"{float(attribution.difference[i]):+.2e} remains after {int(attribution.steps[i])} steps"
        lines.append(f"{title}: {gap}" + ("" if complete else ", which is MORE than 1e-3 of the explained difference"))
    return "\n".join(lines)
