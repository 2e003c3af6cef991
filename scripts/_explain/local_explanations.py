"""Explanations of a model's prediction for one row: eli5's, completed where eli5 alone fails.

eli5 0.16 relies on internals of scikit-learn and XGBoost that have changed since. Such models are passed to it in a
form that it reads correctly, and every result is checked: contributions must sum to the model's own output.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import eli5
import numpy as np
import numpy.typing as npt
from eli5.base import Explanation, FeatureWeight, FeatureWeights, TargetExplanation
from scipy.special import logit
from sklearn.base import is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.pipeline import Pipeline

import evaluation.explanation  # noqa: F401 - registers PyTorch with eli5
from _explain.torch_mlp import TorchMLPClassifier, TorchMLPRegressor

Array = npt.NDArray[Any]
BIAS = "<BIAS>"
TOLERANCE = 1e-3


class NotExplainedError(ValueError):
    """A model or its prediction cannot be explained; the message gives the reason in one line."""


@dataclass(frozen=True)
class Contributions:
    """Contributions of the features to a model's output for one row."""

    values: dict[str, float]  # name -> contribution; <BIAS> is the part that no feature contributes
    output: float  # the model's own, to which the contributions should sum
    unit: str  # value (regression), score (signed for the explained class) or probability (of that class)
    method: str
    note: str = ""  # steps taken beyond eli5's own

    @property
    def difference(self) -> float:
        """The sum of the contributions minus the model's output."""
        return sum(self.values.values()) - self.output

    @property
    def is_complete(self) -> bool:
        """Whether the contributions sum to the output, within 1e-3."""
        return abs(self.difference) <= TOLERANCE * max(1.0, abs(self.output))

    def explanation(self, estimator: str, target: str, row: dict[str, float]) -> Explanation:
        """Convert to eli5's form, for its formatters; `row` has the features' values."""
        features = [FeatureWeight(name, weight, value=row.get(name)) for name, weight in self.values.items()]
        positive = sorted((one for one in features if one.weight > 0), key=lambda one: -one.weight)
        negative = sorted((one for one in features if one.weight < 0), key=lambda one: one.weight)
        output = {"proba" if self.unit == "probability" else "score": self.output}
        explained = TargetExplanation(target, feature_weights=FeatureWeights(positive, negative), **output)
        return Explanation(estimator, method=self.method, targets=[explained], is_regression=self.unit == "value")


def contributions(model: Any, row: Array, names: Sequence[str], label: Any = None) -> Contributions:
    """Return each feature's contribution to a fitted model's output for a row `[D]` of features with D names.

    For a classifier, it is the output for the class `label`, by default the predicted one.

    Raises:
        NotExplainedError: If this model's predictions cannot be explained.
    """
    if label is None and not is_regressor(model):
        (label,) = model.predict(row[None])
    if isinstance(model, Pipeline):
        return _of_last_step(model, row, names, label)
    if isinstance(model, CalibratedClassifierCV):
        return _before_calibration(model, row, names, label)
    if isinstance(model, GradientBoostingClassifier) and len(model.classes_) > 2:
        return _of_trees(model, row, names, label)
    if isinstance(model, TorchMLPRegressor | TorchMLPClassifier):
        return _of_network(model, row, names, label)
    values, method = _by_eli5(two_dimensional(model), row, names, label)
    note = ""
    if _library(model) == "xgboost":
        values[BIAS] = values.get(BIAS, 0.0) + _base_score(model, label)
        note = "XGBoost's base score, which eli5 omits, is added to the bias"
    return Contributions(values, *own_output(model, row, label), method, note)


def own_output(model: Any, row: Array, label: Any = None) -> tuple[float, str]:
    """Return a model's own output for a row, and its unit; a binary score is signed for `label`."""
    rows = row[None]
    if is_regressor(model):
        return float(model.predict(rows)[0]), "value"
    index = list(model.classes_).index(label)
    if _library(model) == "xgboost":
        scores = model.predict(rows, output_margin=True)
    elif _library(model) == "lightgbm":
        scores = model.predict(rows, raw_score=True)
    elif hasattr(model, "decision_function"):
        scores = model.decision_function(rows)
    else:
        return float(model.predict_proba(rows)[0, index]), "probability"
    if np.ndim(scores) == 1:
        return float(scores[0]) * (1 if index == 1 else -1), "score"
    return float(scores[0, index]), "score"


def two_dimensional(model: Any) -> Any:
    """Return a binary ridge classifier with `[1, D]` coefficients, as other classifiers have; others unchanged."""
    if not (isinstance(model, RidgeClassifier | RidgeClassifierCV) and np.ndim(model.coef_) == 1):
        return model
    model = copy.copy(model)
    model.coef_, model.intercept_ = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    return model


def ask_eli5(explain: Callable[..., Explanation], model: Any, *args: Any, **options: Any) -> Explanation:
    """Call one of eli5's functions; an error that it raises or returns becomes a `NotExplainedError`."""
    try:
        with warnings.catch_warnings():
            # eli5 warns of newer XGBoost versions; here the sum is checked instead.
            warnings.filterwarnings("ignore", message="This explanation might be")
            explanation = explain(model, *args, top=None, **options)
    except Exception as error:  # any error that another library's changed internals cause
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise NotExplainedError(f"eli5 fails ({reason})") from error
    if explanation.error:
        reason = explanation.error.replace(f"estimator {explanation.estimator} is", f"{type(model).__name__} is")
        raise NotExplainedError(f"eli5: {' '.join(reason.split())[:160]}")
    return explanation


def weights_of(target: TargetExplanation) -> dict[str, float]:
    """Return the weights that eli5 gives to the features, positive ones first."""
    weights = target.feature_weights
    return {str(one.feature): float(one.weight) for one in [*weights.pos, *weights.neg]}


def mean_of(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean value of each name; a missing one counts as 0."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) / len(parts) for name in names}


def join(*notes: str) -> str:
    """Return the notes that are not empty, as one."""
    return "; ".join(note for note in notes if note)


def _by_eli5(model: Any, row: Array, names: Sequence[str], label: Any) -> tuple[dict[str, float], str]:
    """Return eli5's contributions and the name of its method."""
    targets = {} if label is None else {"targets": [label]}
    explanation = ask_eli5(eli5.explain_prediction, model, row, feature_names=list(names), **targets)
    (target,) = explanation.targets
    return weights_of(target), explanation.method


def _of_last_step(model: Pipeline, row: Array, names: Sequence[str], label: Any) -> Contributions:
    steps, last = model[:-1], model[-1]
    inner_names = [str(name) for name in steps.get_feature_names_out(list(names))]
    inner = contributions(last, steps.transform(row[None])[0], inner_names, label)
    transformed = "" if inner_names == list(names) else "; of the transformed features"
    note = f"the pipeline's last step, {type(last).__name__}, on the transformed row{transformed}"
    return replace(inner, note=join(note, inner.note))


def _before_calibration(model: CalibratedClassifierCV, row: Array, names: Sequence[str], label: Any) -> Contributions:
    estimators = [fold.estimator for fold in model.calibrated_classifiers_]
    parts = [contributions(estimator, row, names, label) for estimator in estimators]
    note = f"mean of the {len(parts)} {type(estimators[0]).__name__} models, before calibration"
    values, output = mean_of([part.values for part in parts]), float(np.mean([part.output for part in parts]))
    return Contributions(values, output, parts[0].unit, parts[0].method, join(note, parts[0].note))


def _of_trees(model: GradientBoostingClassifier, row: Array, names: Sequence[str], label: Any) -> Contributions:
    """Sum over a class's trees: its score is an initial value plus the learning rate times the sum of the trees."""
    trees = model.estimators_[:, list(model.classes_).index(label)]
    mean = mean_of([_by_eli5(tree, row, names, None)[0] for tree in trees])
    values = {name: value * len(trees) * model.learning_rate for name, value in mean.items()}
    output, unit = own_output(model, row, label)
    # The initial value is the same for all rows and has no public name.
    values[BIAS] = output - sum(value for name, value in values.items() if name != BIAS)
    return Contributions(values, output, unit, "decision path", "sum of eli5's contributions over the class's trees")


def _of_network(model: Any, row: Array, names: Sequence[str], label: Any) -> Contributions:
    index, unit = (0, "value") if label is None else (list(model.classes_).index(label), "score")
    options = {"feature_names": list(names), "targets": None if label is None else [index]}
    explanation = eli5.explain_prediction(model.net_, row, baseline=model.baseline_, **options)
    (target,) = explanation.targets
    output = float(model.scores(row[None])[0, index])
    return Contributions(weights_of(target), output, unit, explanation.method, "relative to the mean training row")


def _base_score(model: Any, label: Any) -> float:
    """Return XGBoost's output before the first tree, in the units of its scores."""
    start = np.ravel(model.intercept_)
    if is_regressor(model):
        return float(start[0])
    index = list(model.classes_).index(label)
    return float(start[index]) if len(start) > 1 else float(logit(start[0])) * (1 if index == 1 else -1)


def _library(model: Any) -> str:
    return type(model).__module__.partition(".")[0]
