"""Why a model predicts what it predicts for one row: eli5, and what has to be done where eli5 alone does not.

eli5 0.16 follows scikit-learn's and XGBoost's insides, which have changed since. Here each such model is handed over as
something that eli5 reads rightly, and whatever comes back is checked: contributions must sum to the model's own output.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import eli5
import numpy as np
import numpy.typing as npt
from eli5.base import Explanation, FeatureWeight, FeatureWeights, TargetExplanation
from sklearn.base import is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.pipeline import Pipeline

import evaluation.explanation  # noqa: F401 - teaches eli5 about PyTorch
from _explain.torch_mlp import TorchMLPClassifier, TorchMLPRegressor

Array = npt.NDArray[Any]
BIAS = "<BIAS>"
TOLERANCE = 1e-3


class NotExplainedError(ValueError):
    """A model, or its prediction, cannot be explained; the message says why in one line."""


@dataclass(frozen=True)
class Contributions:
    """What the features add to a model's output for one row.

    Attributes:
        values: Name -> contribution; ``<BIAS>`` is what no feature adds.
        output: The model's own output, to which they should sum.
        unit: ``value`` (regression), ``score`` (signed for the predicted class) or ``probability`` (of that class).
        method: How they were found.
        note: What had to be done beyond eli5, or nothing.
    """

    values: dict[str, float]
    output: float
    unit: str
    method: str
    note: str = ""

    @property
    def difference(self) -> float:
        """The contributions' sum minus the model's output."""
        return sum(self.values.values()) - self.output

    @property
    def is_complete(self) -> bool:
        """Whether they sum to the output, within 1e-3."""
        return abs(self.difference) <= TOLERANCE * max(1.0, abs(self.output))

    def explanation(self, estimator: str, target: str, row: dict[str, float]) -> Explanation:
        """The same in eli5's form, for its formatters; ``row`` has the features' values."""
        features = [FeatureWeight(name, weight, value=row.get(name)) for name, weight in self.values.items()]
        positive = sorted((one for one in features if one.weight > 0), key=lambda one: -one.weight)
        negative = sorted((one for one in features if one.weight < 0), key=lambda one: one.weight)
        weights = FeatureWeights(positive, negative)
        probability = self.output if self.unit == "probability" else None
        score = None if self.unit == "probability" else self.output
        found = TargetExplanation(target, feature_weights=weights, proba=probability, score=score)
        return Explanation(estimator, method=self.method, targets=[found], is_regression=self.unit == "value")


def contributions(model: Any, row: Array, names: Sequence[str], label: Any = None) -> Contributions:
    """What each feature adds to a fitted model's output for ``row``.

    Args:
        model: A regressor, or a classifier.
        row: ``[D]``, as the model takes it.
        names: ``D`` names.
        label: The class that is explained; by default the predicted one.

    Raises:
        NotExplainedError: If there is no way to explain this model's predictions.
    """
    if label is None and not is_regressor(model):
        (label,) = model.predict(row[None])
    if isinstance(model, Pipeline):
        return _of_last_step(model, row, names, label)
    if isinstance(model, CalibratedClassifierCV):
        return _under_calibration(model, row, names, label)
    if isinstance(model, GradientBoostingClassifier) and len(model.classes_) > 2:
        return _tree_by_tree(model, row, names, label)
    if isinstance(model, TorchMLPRegressor | TorchMLPClassifier):
        return _of_network(model, row, names, label)
    if isinstance(model, RidgeClassifier | RidgeClassifierCV) and np.ndim(model.coef_) == 1:
        model = two_dimensional(model)
    values, method = _by_eli5(model, row, names, label)
    note = ""
    if _library(model) == "xgboost":
        values[BIAS] = values.get(BIAS, 0.0) + _base_score(model, label)
        note = "XGBoost's base score, which eli5 leaves out, is added to the bias"
    output, unit = own_output(model, row, label)
    return Contributions(values, output, unit, method, note)


def own_output(model: Any, row: Array, label: Any = None) -> tuple[float, str]:
    """A model's own output for a row, and its unit; scores of two classes are signed for ``label``."""
    rows = row[None]
    if is_regressor(model):
        return float(model.predict(rows)[0]), "value"
    place = list(model.classes_).index(label)
    if _library(model) == "xgboost":
        scores = model.predict(rows, output_margin=True)
    elif _library(model) == "lightgbm":
        scores = model.predict(rows, raw_score=True)
    elif hasattr(model, "decision_function"):
        scores = model.decision_function(rows)
    else:
        return float(model.predict_proba(rows)[0, place]), "probability"
    if np.ndim(scores) == 1:
        return float(scores[0]) * (1 if place == 1 else -1), "score"
    return float(scores[0, place]), "score"


def two_dimensional(model: Any) -> Any:
    """The same ridge classifier of two classes with ``[1, D]`` coefficients, as scikit-learn's others have them."""
    same = copy.copy(model)
    same.coef_ = np.atleast_2d(model.coef_)
    same.intercept_ = np.atleast_1d(model.intercept_)
    return same


def readable(error: Exception) -> str:
    """What eli5 ran into, in a few words."""
    return f"eli5 fails on it ({type(error).__name__}: {' '.join(str(error).split())[:120]})"


def checked(explanation: Explanation) -> Explanation:
    """The explanation itself.

    Raises:
        NotExplainedError: If it only says that eli5 has none.
    """
    if explanation.error:
        short = explanation.error.replace(f"estimator {explanation.estimator} is", f"{_kind(explanation)} is")
        raise NotExplainedError(f"eli5: {' '.join(short.split())[:160]}")
    return explanation


def _kind(explanation: Explanation) -> str:
    return str(explanation.estimator).partition("(")[0]


def _by_eli5(model: Any, row: Array, names: Sequence[str], label: Any) -> tuple[dict[str, float], str]:
    """eli5's contributions and the name of its method."""
    targets = {} if label is None else {"targets": [label]}
    try:
        with warnings.catch_warnings():
            # "might be incorrect" with a new XGBoost: the sum is checked here.
            warnings.filterwarnings("ignore", message="This explanation might be")
            found = eli5.explain_prediction(model, row, feature_names=list(names), top=None, **targets)
    except Exception as error:  # whatever eli5's way through another library's insides leads to
        raise NotExplainedError(readable(error)) from error
    (target,) = checked(found).targets
    weights = target.feature_weights
    return {str(one.feature): float(one.weight) for one in [*weights.pos, *weights.neg]}, found.method


def _of_last_step(model: Pipeline, row: Array, names: Sequence[str], label: Any) -> Contributions:
    steps, last = model[:-1], model[-1]
    inner = [str(name) for name in steps.get_feature_names_out(list(names))]
    values = steps.transform(row[None])[0]
    found = contributions(last, values, inner, label)
    changed = "" if inner == list(names) else "; of the transformed features"
    note = f"the pipeline's last step, {type(last).__name__}, on the transformed row{changed}"
    return Contributions(found.values, found.output, found.unit, found.method, _join(note, found.note))


def _under_calibration(model: CalibratedClassifierCV, row: Array, names: Sequence[str], label: Any) -> Contributions:
    parts = [contributions(fold.estimator, row, names, label) for fold in model.calibrated_classifiers_]
    kind = type(model.calibrated_classifiers_[0].estimator).__name__
    note = f"mean of the {len(parts)} {kind} under the calibration, before it"
    values = mean_of([part.values for part in parts])
    output = float(np.mean([part.output for part in parts]))
    return Contributions(values, output, parts[0].unit, parts[0].method, _join(note, parts[0].note))


def _tree_by_tree(model: GradientBoostingClassifier, row: Array, names: Sequence[str], label: Any) -> Contributions:
    """A class's score is a start value plus the learning rate times the sum of its trees, each of which eli5 reads."""
    trees = model.estimators_[:, list(model.classes_).index(label)]
    mean = mean_of([_by_eli5(tree, row, names, None)[0] for tree in trees])
    values = {name: value * len(trees) * model.learning_rate for name, value in mean.items()}
    output, unit = own_output(model, row, label)
    # The start value, which is the same for all rows, has no public name.
    values[BIAS] = output - sum(value for name, value in values.items() if name != BIAS)
    return Contributions(values, output, unit, "decision path", "eli5 on each tree of the class, added up")


def _of_network(model: Any, row: Array, names: Sequence[str], label: Any) -> Contributions:
    place = 0 if label is None else list(model.classes_).index(label)
    found = eli5.explain_prediction(
        model.net_, row, feature_names=list(names), targets=None if label is None else [place], baseline=model.baseline_
    )
    (target,) = found.targets
    values = {one.feature: one.weight for one in [*target.feature_weights.pos, *target.feature_weights.neg]}
    scores = model.scores(row[None])[0]
    unit = "value" if label is None else "score"
    return Contributions(values, float(scores[place]), unit, found.method, "from the mean training row")


def mean_of(parts: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each name's values; a name that is lacking counts as 0."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) / len(parts) for name in names}


def _base_score(model: Any, label: Any) -> float:
    """What XGBoost starts from, before its trees, in the units of its scores."""
    start = np.ravel(model.intercept_)
    if is_regressor(model):
        return float(start[0])
    place = list(model.classes_).index(label)
    if len(model.classes_) > 2:
        return float(start[place])
    return float(np.log(start[0] / (1 - start[0]))) * (1 if place == 1 else -1)


def _library(model: Any) -> str:
    return type(model).__module__.partition(".")[0]


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
