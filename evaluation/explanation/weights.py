"""An eli5 explanation of a network as a whole: permutation importance."""

from collections.abc import Sequence
from typing import Any

from eli5.base import Explanation, FeatureImportances
from torch import nn

from .network import check_inputs
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
    """Explain a network by how much its metric decreases when a part of the input is shuffled.

    `eli5.explain_weights(model, data=...)` calls this function. eli5 prints each importance with twice its standard
    deviation over the shuffles. Arguments that are not listed are those of
    `evaluation.explanation.permutation.permutation_importance`.

    Args:
        data: A loader of `(inputs, labels)`, or the pair `(inputs, labels)`.
        feature_names: Names of the columns, channels or cells; by default the columns of a data frame, or numbers.
        top: Number of parts to show; None for all.

    Raises:
        ValueError: If there are no data, they do not match, or an argument has a bad value.
    """
    check_inputs(model)
    if data is None:
        raise ValueError("a network is explained by its data: pass data=, a loader or a pair (inputs, labels)")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 0):
        raise ValueError(f"top must be a number or None, found {top!r}")
    if feature_names is None and isinstance(data, tuple) and data:
        columns = getattr(data[0], "columns", None)  # of a data frame
        feature_names = None if columns is None else [str(column) for column in columns]
    importance = permutation_importance(
        model, data, metric=metric, patch=patch, names=feature_names, repeats=repeats, seed=seed, batch_size=batch_size
    )
    order = importance.values.argsort(descending=True, stable=True).tolist()
    shown = order[:top]
    importances = FeatureImportances.from_names_values(
        [importance.names[i] for i in shown],
        importance.values[shown].tolist(),
        importance.std[shown].tolist(),
        remaining=len(order) - len(shown),
    )
    return Explanation(
        estimator=type(model).__name__,
        method="permutation importance",
        description=(
            f"Decrease of {importance.metric} ({importance.score:.4f} on {importance.examples:,} examples) when a part "
            f"of the input is shuffled among the examples, mean of {repeats}."
        ),
        feature_importances=importances,
        is_regression=importance.metric == "r2",
    )
