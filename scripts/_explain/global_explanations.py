"""Which features a model looks at in general: eli5's weights, or permutation importance where it has none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import eli5
import numpy as np
import numpy.typing as npt
from eli5.base import Explanation, FeatureImportances, FeatureWeight
from eli5.sklearn import PermutationImportance
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.pipeline import Pipeline

from _explain.local_explanations import BIAS, NotExplainedError, checked, mean_of, readable, two_dimensional
from _explain.torch_mlp import TorchMLPClassifier, TorchMLPRegressor

Array = npt.NDArray[Any]
SHUFFLES = 5
MOST_ROWS = 1000
"""Rows that permutation importance looks at."""


@dataclass(frozen=True)
class Weights:
    """How much a model looks at each feature.

    Attributes:
        values: Name -> weight: coefficients are signed where there is one target, and else, as importances, positive.
        kind: ``coefficients``, ``importances`` (of trees) or ``permutation``.
        note: What had to be done beyond eli5, or nothing.
        explanation: The same for eli5's formatters.
    """

    values: dict[str, float]
    kind: str
    note: str
    explanation: Explanation

    def shares(self) -> dict[str, float]:
        """Each feature's share of all importance, in [0, 1]; a negative permutation importance counts as none."""
        sizes = {name: max(v, 0.0) if self.kind == "permutation" else abs(v) for name, v in self.values.items()}
        total = sum(sizes.values())
        return {name: size / total if total > 0 else 0.0 for name, size in sizes.items()}


def weights(model: Any, names: Sequence[str], X: Array, y: Array, classes: Sequence[str], seed: int) -> Weights:
    """Explain a fitted model in general.

    Args:
        model: A regressor, or a classifier of the classes 0 to K - 1.
        names: ``D`` names of the features.
        X: Rows ``[N, D]`` that it was not fitted to, for permutation importance.
        y: Their targets ``[N]``.
        classes: ``K`` names; none for regression.
        seed: Of the permutations.
    """
    if isinstance(model, TorchMLPRegressor | TorchMLPClassifier):
        few = slice(MOST_ROWS)
        found = eli5.explain_weights(model.net_, data=(X[few], y[few]), feature_names=list(names), seed=seed, top=None)
        return Weights(_values(found), "permutation", "", found)
    try:
        return _own(model, names, classes)
    except NotExplainedError as error:
        return _permuted(model, names, X[:MOST_ROWS], y[:MOST_ROWS], seed, str(error))


def _own(model: Any, names: Sequence[str], classes: Sequence[str]) -> Weights:
    if isinstance(model, Pipeline):
        found = _own(model[-1], [str(name) for name in model[:-1].get_feature_names_out(list(names))], classes)
        note = "; ".join(note for note in (f"the pipeline's last step, {type(model[-1]).__name__}", found.note) if note)
        return Weights(found.values, found.kind, note, found.explanation)
    if isinstance(model, CalibratedClassifierCV):
        return _under_calibration(model, names, classes)
    if isinstance(model, RidgeClassifier | RidgeClassifierCV) and np.ndim(model.coef_) == 1:
        model = two_dimensional(model)
    labels = {"target_names": list(classes)} if classes else {}
    try:
        found = eli5.explain_weights(model, feature_names=list(names), top=None, **labels)
    except Exception as error:  # whatever eli5's way through another library's insides leads to
        raise NotExplainedError(readable(error)) from error
    kind = "coefficients" if checked(found).targets else "importances"
    return Weights(_values(found), kind, "", found)


def _under_calibration(model: CalibratedClassifierCV, names: Sequence[str], classes: Sequence[str]) -> Weights:
    parts = [_own(fold.estimator, names, classes) for fold in model.calibrated_classifiers_]
    kind = type(model.calibrated_classifiers_[0].estimator).__name__
    values = mean_of([part.values for part in parts])
    note = f"mean of the {len(parts)} {kind} under the calibration"
    found = _importances(repr(model), values, parts[0].explanation.method, note)
    return Weights(values, parts[0].kind, note, found)


def _permuted(model: Any, names: Sequence[str], X: Array, y: Array, seed: int, why: str) -> Weights:
    wrapped = PermutationImportance(model, n_iter=SHUFFLES, random_state=seed).fit(X, y)
    found = eli5.explain_weights(wrapped, feature_names=list(names), top=None)
    return Weights(_values(found), "permutation", f"permutation importance, because {why}", found)


def _values(found: Explanation) -> dict[str, float]:
    """One number a feature: importances, coefficients, or with several targets the mean of their sizes."""
    if found.feature_importances:
        return {str(one.feature): float(one.weight) for one in found.feature_importances.importances}
    targets = [[*t.feature_weights.pos, *t.feature_weights.neg] for t in found.targets]
    parts = [{str(one.feature): float(one.weight) for one in target if one.feature != BIAS} for target in targets]
    if len(parts) == 1:
        return parts[0]
    return mean_of([{name: abs(value) for name, value in part.items()} for part in parts])


def _importances(estimator: str, values: dict[str, float], method: str, description: str) -> Explanation:
    features = sorted(values.items(), key=lambda one: -abs(one[1]))
    listed = FeatureImportances([FeatureWeight(name, value) for name, value in features], remaining=0)
    return Explanation(estimator, method=method, description=description, feature_importances=listed)
