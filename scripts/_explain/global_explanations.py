"""Feature weights of a whole model: eli5's, or permutation importance where a model has none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import eli5
import numpy.typing as npt
from eli5.base import Explanation, FeatureImportances, FeatureWeight
from eli5.sklearn import PermutationImportance
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from _explain.local_explanations import BIAS, NotExplainedError, ask_eli5, join, mean_of, two_dimensional, weights_of
from _explain.torch_mlp import TorchMLPClassifier, TorchMLPRegressor

Array = npt.NDArray[Any]
SHUFFLES = 5
MAX_ROWS = 1000
"""Limits of permutation importance: shuffles of each feature, and rows."""


@dataclass(frozen=True)
class Weights:
    """The weight of each feature in a model."""

    values: dict[str, float]  # name -> weight; coefficients of a single target are signed, all others are sizes
    kind: str  # coefficients, importances (of trees) or permutation
    note: str  # steps taken beyond eli5's own, or nothing
    explanation: Explanation  # for eli5's formatters

    def shares(self) -> dict[str, float]:
        """Return each feature's share of the total, in [0, 1]; a negative permutation importance counts as 0."""
        sizes = {name: max(v, 0.0) if self.kind == "permutation" else abs(v) for name, v in self.values.items()}
        total = sum(sizes.values())
        return {name: size / total if total > 0 else 0.0 for name, size in sizes.items()}


def weights(model: Any, names: Sequence[str], X: Array, y: Array, classes: Sequence[str], seed: int) -> Weights:
    """Return the feature weights of a fitted regressor, or classifier of the classes 0 to K - 1.

    Permutation importance takes rows `[N, D]` that the model was not fitted to, and their targets `[N]`.
    """
    X, y = X[:MAX_ROWS], y[:MAX_ROWS]
    if isinstance(model, TorchMLPRegressor | TorchMLPClassifier):
        explanation = eli5.explain_weights(model.net_, data=(X, y), feature_names=list(names), seed=seed, top=None)
        return Weights(_values(explanation), "permutation", "", explanation)
    try:
        return _own(model, names, classes)
    except NotExplainedError as error:
        wrapped = PermutationImportance(model, n_iter=SHUFFLES, random_state=seed).fit(X, y)
        explanation = eli5.explain_weights(wrapped, feature_names=list(names), top=None)
        note = f"permutation importance, because {error}"
        return Weights(_values(explanation), "permutation", note, explanation)


def _own(model: Any, names: Sequence[str], classes: Sequence[str]) -> Weights:
    """Return the model's own coefficients or importances, as eli5 reads them."""
    if isinstance(model, Pipeline):
        last = _own(model[-1], [str(name) for name in model[:-1].get_feature_names_out(list(names))], classes)
        return replace(last, note=join(f"the pipeline's last step, {type(model[-1]).__name__}", last.note))
    if isinstance(model, CalibratedClassifierCV):
        return _before_calibration(model, names, classes)
    labels = {"target_names": list(classes)} if classes else {}
    explanation = ask_eli5(eli5.explain_weights, two_dimensional(model), feature_names=list(names), **labels)
    return Weights(_values(explanation), "coefficients" if explanation.targets else "importances", "", explanation)


def _before_calibration(model: CalibratedClassifierCV, names: Sequence[str], classes: Sequence[str]) -> Weights:
    estimators = [fold.estimator for fold in model.calibrated_classifiers_]
    parts = [_own(estimator, names, classes) for estimator in estimators]
    values = mean_of([part.values for part in parts])
    note = f"mean of the {len(parts)} {type(estimators[0]).__name__} models, before calibration"
    features = [FeatureWeight(name, value) for name, value in sorted(values.items(), key=lambda one: -abs(one[1]))]
    method, importances = parts[0].explanation.method, FeatureImportances(features, remaining=0)
    explanation = Explanation(repr(model), method=method, description=note, feature_importances=importances)
    return Weights(values, parts[0].kind, note, explanation)


def _values(explanation: Explanation) -> dict[str, float]:
    """Return one number for each feature; for several targets the mean size of its coefficients."""
    if explanation.feature_importances:
        return {str(one.feature): float(one.weight) for one in explanation.feature_importances.importances}
    parts = [weights_of(target) for target in explanation.targets]
    values = parts[0] if len(parts) == 1 else mean_of([{name: abs(part[name]) for name in part} for part in parts])
    return {name: value for name, value in values.items() if name != BIAS}
