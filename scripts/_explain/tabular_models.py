"""The models that ``explain.py tabular`` compares, by name."""

from collections.abc import Callable
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
"""Makes an unfitted model from a seed."""
OPTIONAL = {"XGBoost": "xgboost", "LightGBM": "lightgbm"}
INSTALL = 'pip install -e ".[boosting]"'


def regressors() -> dict[str, Factory]:
    """Every regressor that can be had here, by name."""
    models: dict[str, Factory] = {
        "linear": lambda seed: make_pipeline(StandardScaler(), LinearRegression()),
        "tree": lambda seed: DecisionTreeRegressor(max_depth=4, random_state=seed),
        "forest": lambda seed: RandomForestRegressor(100, min_samples_leaf=2, random_state=seed),
        "boosting": lambda seed: GradientBoostingRegressor(random_state=seed),
    }
    optional = _available({"XGBoost": _xgb_regressor, "LightGBM": _lgbm_regressor})
    return models | optional | {"MLP (torch)": lambda seed: TorchMLPRegressor(seed=seed)}


def classifiers() -> dict[str, Factory]:
    """Every classifier that can be had here, by name."""
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
    optional = _available({"XGBoost": _xgb_classifier, "LightGBM": _lgbm_classifier})
    return models | optional | {"MLP (torch)": lambda seed: TorchMLPClassifier(seed=seed)}


def _available(optional: dict[str, Factory]) -> dict[str, Factory]:
    return {name: make for name, make in optional.items() if installed(name)}


def installed(name: str) -> bool:
    """Whether an optional library is there."""
    return find_spec(OPTIONAL[name]) is not None


def chosen(models: dict[str, Factory], names: list[str] | None) -> dict[str, Factory]:
    """The models of these names, or all of them.

    Raises:
        ValueError: If there is no model of a name.
    """
    if names is None:
        return models
    known = regressors() | classifiers()
    for name in names:
        if name in OPTIONAL and not installed(name):
            raise ValueError(f"--models: {name} is not installed: {INSTALL}")
        if name not in known:
            raise ValueError(f"--models: there is no model {name!r}; known are {', '.join(known)}")
    found = {name: models[name] for name in names if name in models}
    if not found:
        raise ValueError(f"--models: none of {', '.join(names)} fits the task; those that do are {', '.join(models)}")
    return found


def _xgb_regressor(seed: int) -> Any:
    import xgboost

    return xgboost.XGBRegressor(n_estimators=100, max_depth=3, learning_rate=0.1, random_state=seed, n_jobs=1)


def _xgb_classifier(seed: int) -> Any:
    import xgboost

    return xgboost.XGBClassifier(n_estimators=100, max_depth=3, learning_rate=0.1, random_state=seed, n_jobs=1)


def _lgbm_regressor(seed: int) -> Any:
    import lightgbm

    return lightgbm.LGBMRegressor(n_estimators=100, num_leaves=8, random_state=seed, n_jobs=1, verbose=-1)


def _lgbm_classifier(seed: int) -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=100, num_leaves=8, random_state=seed, n_jobs=1, verbose=-1)
