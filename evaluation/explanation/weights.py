"""An eli5 explanation of what a network looks at in general: permutation importance."""

from collections.abc import Sequence
from typing import Any

from eli5.base import Explanation, FeatureImportances
from torch import nn

from .permutation import Metric, permutation_importance


def explain_weights(
    model: nn.Module,
    data: Any = None,
    *,
    feature_names: Sequence[str] | None = None,
    patch: int | None = None,
    metric: Metric | None = None,
    repeats: int = 5,
    seed: int = 0,
    batch_size: int = 1024,
    top: int | None = 20,
) -> Explanation:
    """Explain a network by how much worse it gets when a part of its input is shuffled.

    This is what ``eli5.explain_weights(model, data=...)`` calls; see
    :func:`evaluation.explanation.permutation.permutation_importance`. eli5 prints each importance with twice its
    standard deviation over the shuffles.

    Args:
        model: Maps ``[N, ...]`` to ``[N, K]`` or ``[N]``.
        data: A loader of ``(inputs, labels)``, or the pair ``(inputs, labels)``.
        feature_names: Names of the columns, channels or cells.
        patch: Side of the cells of a grid over images; without it, channels.
        metric: What gets worse: ``"accuracy"``, ``"nll"``, ``"r2"`` or a function.
        repeats: Number of shuffles of each part.
        seed: Of the shuffles.
        batch_size: Examples evaluated at once.
        top: Show so many parts; None for all.

    Returns:
        The explanation, with ``feature_importances``.

    Raises:
        ValueError: If there are no data, they do not fit, or an argument has a bad value.
    """
    if data is None:
        raise ValueError("a network is explained by its data: give data=, a loader or a pair (inputs, labels)")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 0):
        raise ValueError(f"top must be a number or None, got {top!r}")
    if feature_names is None and hasattr(data, "__getitem__") and isinstance(data, tuple):
        columns = getattr(data[0], "columns", None)  # of a data frame
        feature_names = None if columns is None else [str(column) for column in columns]
    found = permutation_importance(
        model, data, metric=metric, patch=patch, names=feature_names, repeats=repeats, seed=seed, batch_size=batch_size
    )
    order = found.values.argsort(descending=True, stable=True).tolist()
    kept = order[:top]
    importances = FeatureImportances.from_names_values(
        [found.names[i] for i in kept],
        found.values[kept].tolist(),
        found.std[kept].tolist(),
        remaining=len(order) - len(kept),
    )
    return Explanation(
        estimator=type(model).__name__,
        method="permutation importance",
        description=(
            f"Decrease of {found.metric} ({found.score:.4f} on {found.examples:,} examples) when a part of the input "
            f"is shuffled among the examples, mean of {repeats}."
        ),
        feature_importances=importances,
        is_regression=found.metric == "r2",
    )
