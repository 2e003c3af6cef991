"""The models of `explain.py tabular`, by name."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sklearn import ensemble
from sklearn.calibration import CalibratedClassifierCV
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
    return {
        "linear": lambda seed: make_pipeline(StandardScaler(), LinearRegression()),
        "tree": lambda seed: DecisionTreeRegressor(max_depth=4, random_state=seed),
        "forest": lambda seed: ensemble.RandomForestRegressor(100, min_samples_leaf=2, random_state=seed),
        "boosting": lambda seed: ensemble.GradientBoostingRegressor(random_state=seed),
        **_optional("Regressor"),
        "MLP (torch)": lambda seed: TorchMLPRegressor(seed=seed),
    }


def classifiers() -> dict[str, Factory]:
    """Return every classifier whose library is installed."""
    return {
        "linear": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "ridge": lambda seed: make_pipeline(StandardScaler(), RidgeClassifier()),
        "calibrated SVM": lambda seed: make_pipeline(
            StandardScaler(), CalibratedClassifierCV(LinearSVC(random_state=seed), cv=3)
        ),
        "RBF SVM": lambda seed: make_pipeline(StandardScaler(), SVC()),
        "tree": lambda seed: DecisionTreeClassifier(max_depth=4, random_state=seed),
        "forest": lambda seed: ensemble.RandomForestClassifier(100, random_state=seed),
        "boosting": lambda seed: ensemble.GradientBoostingClassifier(random_state=seed),
        **_optional("Classifier"),
        "MLP (torch)": lambda seed: TorchMLPClassifier(seed=seed),
    }


def _optional(kind: str) -> dict[str, Factory]:
    """Return the regressors or classifiers of the optional libraries that are installed."""

    def factory(module: str, name: str, **options: Any) -> Factory:
        shared = {"n_estimators": 100, "n_jobs": 1}
        return lambda seed: getattr(import_module(module), name)(random_state=seed, **shared, **options)

    models = {
        "XGBoost": factory("xgboost", f"XGB{kind}", max_depth=3, learning_rate=0.1),
        "LightGBM": factory("lightgbm", f"LGBM{kind}", num_leaves=8, verbose=-1),
    }
    return {name: make for name, make in models.items() if find_spec(OPTIONAL[name])}


def select(models: dict[str, Factory], names: list[str] | None) -> dict[str, Factory]:
    """Return the models of these names, or all of them for None; unknown names are refused."""
    if names is None:
        return models
    known = regressors() | classifiers()
    for name in names:
        if name in OPTIONAL and name not in known:
            raise ValueError(f"--models: {name} is not installed: {INSTALL}")
        if name not in known:
            raise ValueError(f"--models: there is no model {name!r}; known are {', '.join(known)}")
    selected = {name: models[name] for name in names if name in models}
    if not selected:
        raise ValueError(f"--models: none of {', '.join(names)} fits the task; these do: {', '.join(models)}")
    return selected
