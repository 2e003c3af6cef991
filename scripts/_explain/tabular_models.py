"""The models of `explain.py tabular`, by name."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from _explain.torch_mlp import TorchMLPClassifier, TorchMLPRegressor

Factory = Callable[[int], Any]
"""Returns an unfitted model for a seed."""
OPTIONAL = {"XGBoost": "xgboost", "LightGBM": "lightgbm"}
INSTALL = 'pip install -e ".[boosting]"'


def regressors() -> dict[str, Factory]:
    """Return every regressor whose library is installed."""
    models: dict[str, Factory] = {
        "linear": lambda seed: make_pipeline(StandardScaler(), LinearRegression()),
        "tree": lambda seed: DecisionTreeRegressor(max_depth=4, random_state=seed),
        "forest": lambda seed: RandomForestRegressor(100, min_samples_leaf=2, random_state=seed),
        "boosting": lambda seed: GradientBoostingRegressor(random_state=seed),
    }
    return models | _optional("Regressor") | {"MLP (torch)": lambda seed: TorchMLPRegressor(seed=seed)}


def classifiers() -> dict[str, Factory]:
    """Return every classifier whose library is installed."""
    models: dict[str, Factory] = {
        "linear": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "ridge": lambda seed: make_pipeline(StandardScaler(), RidgeClassifier()),
        "calibrated SVM": lambda seed: make_pipeline(
            StandardScaler(), CalibratedClassifierCV(LinearSVC(random_state=seed), cv=3)
        ),
        "RBF SVM": lambda seed: make_pipeline(StandardScaler(), SVC()),
        "tree": lambda seed: DecisionTreeClassifier(max_depth=4, random_state=seed),
        "forest": lambda seed: RandomForestClassifier(100, random_state=seed),
        "boosting": lambda seed: GradientBoostingClassifier(random_state=seed),
    }
    return models | _optional("Classifier") | {"MLP (torch)": lambda seed: TorchMLPClassifier(seed=seed)}


def _optional(kind: str) -> dict[str, Factory]:
    """Return the regressors or classifiers of the optional libraries that are installed."""

    def xgboost(seed: int) -> Any:
        make = getattr(import_module("xgboost"), f"XGB{kind}")
        return make(n_estimators=100, max_depth=3, learning_rate=0.1, random_state=seed, n_jobs=1)

    def lightgbm(seed: int) -> Any:
        make = getattr(import_module("lightgbm"), f"LGBM{kind}")
        return make(n_estimators=100, num_leaves=8, random_state=seed, n_jobs=1, verbose=-1)

    return {name: make for name, make in {"XGBoost": xgboost, "LightGBM": lightgbm}.items() if is_installed(name)}


def is_installed(name: str) -> bool:
    """Return whether an optional model's library is installed."""
    return find_spec(OPTIONAL[name]) is not None


def select(models: dict[str, Factory], names: list[str] | None) -> dict[str, Factory]:
    """Return the models of these names, or all of them for None.

    Raises:
        ValueError: If a name is unknown, or no model has one of the names.
    """
    if names is None:
        return models
    known = regressors() | classifiers()
    for name in names:
        if name in OPTIONAL and not is_installed(name):
            raise ValueError(f"--models: {name} is not installed: {INSTALL}")
        if name not in known:
            raise ValueError(f"--models: there is no model {name!r}; known are {', '.join(known)}")
    selected = {name: models[name] for name in names if name in models}
    if not selected:
        raise ValueError(f"--models: none of {', '.join(names)} fits the task; these do: {', '.join(models)}")
    return selected
