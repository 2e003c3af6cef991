"""Explanations of models of every kind: by eli5 alone, completed, and reasons for missing ones."""

import eli5
import numpy as np
import pytest
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from _explain.global_explanations import weights
from _explain.local_explanations import BIAS, NotExplainedError, contributions, own_output
from _explain.torch_mlp import TorchMLPClassifier, TorchMLPRegressor

TABLES = {
    "iris": datasets.load_iris,
    "breast cancer": datasets.load_breast_cancer,
    "diabetes": lambda: datasets.load_diabetes(scaled=False),
}
CLASSIFIERS = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "ridge": lambda: make_pipeline(StandardScaler(), RidgeClassifier()),
    "linear SVM": lambda: make_pipeline(StandardScaler(), LinearSVC(random_state=0)),
    "calibrated SVM": lambda: make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC(random_state=0), cv=2)),
    "calibrated forest": lambda: CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), cv=2),
    "tree": lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
    "forest": lambda: RandomForestClassifier(10, random_state=0),
    "extra trees": lambda: ExtraTreesClassifier(10, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=10, random_state=0),
    "MLP": lambda: TorchMLPClassifier(steps=100, hidden=(8,)),
}
REGRESSORS = {
    "linear": LinearRegression,
    "scaled": lambda: make_pipeline(StandardScaler(), LinearRegression()),
    "tree": lambda: DecisionTreeRegressor(max_depth=3, random_state=0),
    "forest": lambda: RandomForestRegressor(10, random_state=0),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=10, random_state=0),
    "MLP": lambda: TorchMLPRegressor(steps=100, hidden=(8,)),
}
CASES = [("diabetes", name) for name in REGRESSORS]
CASES += [(table, name) for table in ("iris", "breast cancer") for name in CLASSIFIERS]
UNEXPLAINED = {
    "RBF SVM": lambda: make_pipeline(StandardScaler(), SVC()),
    "neighbours": lambda: KNeighborsClassifier(),
    "naive Bayes": lambda: GaussianNB(),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=5),
    "calibrated RBF SVM": lambda: CalibratedClassifierCV(SVC(), cv=2),
}


def load(table):
    bunch = TABLES[table]()
    return bunch.data, bunch.target, [str(name) for name in bunch.feature_names]


def fit(table, make):
    X, y, names = load(table)
    return make().fit(X, y), X, y, names


@pytest.mark.parametrize(("table", "name"), CASES)
def test_contributions_sum_to_the_models_output(table, name):
    model, X, _y, names = fit(table, (REGRESSORS | CLASSIFIERS)[name] if table != "diabetes" else REGRESSORS[name])
    for row in (0, len(X) // 2, len(X) - 1):
        explained = contributions(model, X[row], names)
        assert set(explained.values) <= {BIAS, *names}
        assert explained.is_complete, explained.difference
        assert abs(explained.difference) < (1e-2 if name == "MLP" else 1e-6) * max(1, abs(explained.output))
        (predicted,) = model.predict(X[row][None])
        if table == "diabetes":
            assert explained.output == pytest.approx(predicted, rel=1e-5)
        elif explained.unit == "probability" and name != "calibrated forest":
            assert explained.output == pytest.approx(model.predict_proba(X[row][None])[0].max())
        elif explained.unit == "score" and not name.startswith("calibrated") and name != "MLP":
            scores = model.decision_function(X[row][None])
            assert explained.output == pytest.approx(np.max(scores if table == "iris" else np.abs(scores)))
        html = eli5.format_as_html(explained.explanation(name, str(predicted), dict(zip(names, X[row], strict=True))))
        assert "Contribution" in html


def test_linear_contributions_are_coefficients_times_values():
    model, X, _y, names = fit("diabetes", REGRESSORS["scaled"])
    explained = contributions(model, X[7], names).values
    scaled = model[0].transform(X[:8])[7]
    for name, coefficient, value in zip(names, model[1].coef_, scaled, strict=True):
        assert explained[name] == pytest.approx(coefficient * value)
    assert explained[BIAS] == pytest.approx(model[1].intercept_)


def test_two_classes_of_ridge_are_signed_for_the_class():
    model, X, _y, names = fit("breast cancer", CLASSIFIERS["ridge"])
    against, on = (contributions(model, X[3], names, label) for label in (0, 1))
    assert on.output == pytest.approx(model.decision_function(X[3][None])[0])
    assert on.output == pytest.approx(-against.output)
    for name in names:
        assert on.values[name] == pytest.approx(-against.values[name])


def test_several_classes_of_boosting_start_from_one_value():
    X, y, names = load("iris")
    X, y = X[:120], y[:120]
    model = CLASSIFIERS["boosting"]().fit(X, y)
    logarithms = np.log(np.bincount(y) / len(y))
    start = logarithms[1] - logarithms.mean()
    roots = sum(float(tree.tree_.value[0, 0, 0]) for tree in model.estimators_[:, 1])
    for row in (0, 60, 110):
        explained = contributions(model, X[row], names, 1)
        assert explained.values[BIAS] == pytest.approx(start + model.learning_rate * roots)
        assert explained.output == pytest.approx(model.decision_function(X[row][None])[0, 1])


@pytest.mark.parametrize("table", ["diabetes", "breast cancer", "iris"])
def test_xgboost_as_xgboost_itself_attributes(table):
    xgboost = pytest.importorskip("xgboost")
    X, y, names = load(table)
    kind = xgboost.XGBRegressor if table == "diabetes" else xgboost.XGBClassifier
    model = kind(n_estimators=10, max_depth=3, n_jobs=1).fit(X, y)
    label = None if table == "diabetes" else 1
    for row in (0, len(X) - 1):
        explained = contributions(model, X[row], names, label)
        assert explained.is_complete
        # XGBoost's approx_contribs is Saabas' method: the same decision paths.
        theirs = model.get_booster().predict(xgboost.DMatrix(X[row][None]), pred_contribs=True, approx_contribs=True)
        theirs = theirs[0, 1] if table == "iris" else theirs[0]
        ours = [explained.values.get(name, 0.0) for name in [*names, BIAS]]
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("table", ["diabetes", "breast cancer", "iris"])
def test_lightgbm_sums_to_its_raw_score(table):
    lightgbm = pytest.importorskip("lightgbm")
    X, y, names = load(table)
    kind = lightgbm.LGBMRegressor if table == "diabetes" else lightgbm.LGBMClassifier
    model = kind(n_estimators=10, num_leaves=6, n_jobs=1, verbose=-1).fit(X, y)
    explained = contributions(model, X[5], names)
    (raw,) = model.predict(X[5][None], raw_score=True)
    assert explained.output == pytest.approx(
        raw if table == "diabetes" else np.max(raw) if table == "iris" else abs(raw)
    )
    assert explained.difference == pytest.approx(0, abs=1e-6)


def test_a_network_starts_from_the_mean_row():
    model, X, _y, names = fit("diabetes", REGRESSORS["MLP"])
    explained = contributions(model, X[0], names)
    assert explained.values[BIAS] == pytest.approx(model.predict(X.mean(axis=0)[None])[0], rel=1e-4)
    assert contributions(model, X.mean(axis=0), names).values.keys() - {BIAS} == set()


@pytest.mark.parametrize("name", list(UNEXPLAINED))
def test_unexplained_models_have_a_reason_and_permutation_importance(name):
    chance = np.random.default_rng(0)
    X = chance.normal(size=(300, 4))
    y = (X[:, 2] > 0).astype(int)
    model = UNEXPLAINED[name]().fit(X, y)
    names = ["a", "b", "planted", "d"]
    with pytest.raises(NotExplainedError, match="eli5") as raised:
        contributions(model, X[0], names)
    assert "\n" not in str(raised.value)
    explained = weights(model, names, X, y, ["no", "yes"], seed=0)
    assert explained.kind == "permutation"
    assert "because eli5" in explained.note
    assert explained.shares()["planted"] > 0.75
    assert sum(explained.shares().values()) == pytest.approx(1)


@pytest.mark.parametrize(("table", "name"), CASES)
def test_weights_find_a_planted_feature(table, name):
    chance = np.random.default_rng(1)
    X = chance.normal(size=(300, 3))
    y = 3 * X[:, 1] + 0.3 * chance.normal(size=300)
    classes = {"diabetes": [], "breast cancer": ["low", "high"], "iris": ["low", "middle", "high"]}[table]
    if classes:
        y = np.digitize(y, np.quantile(y, np.arange(1, len(classes)) / len(classes)))
    model = (CLASSIFIERS if classes else REGRESSORS)[name]().fit(X, y)
    explained = weights(model, ["a", "planted", "c"], X, y, classes, seed=0)
    shares = explained.shares()
    assert max(shares, key=shares.get) == "planted"
    assert shares["planted"] > (0.45 if classes else 0.7)
    assert eli5.format_as_html(explained.explanation)


def test_weights_of_calibrated_machines_are_the_mean_of_theirs():
    model, X, y, names = fit("breast cancer", CLASSIFIERS["calibrated SVM"])
    explained = weights(model, names, X, y, ["malignant", "benign"], seed=0)
    machines = [fold.estimator.coef_[0] for fold in model[-1].calibrated_classifiers_]
    expected = np.mean(machines, axis=0)
    np.testing.assert_allclose([explained.values[name] for name in names], expected)
    assert explained.kind == "coefficients"


def test_own_output_is_signed_for_the_label():
    model, X, _y, _names = fit("breast cancer", CLASSIFIERS["boosting"])
    (score,) = model.decision_function(X[:1])
    assert own_output(model, X[0], 1) == (pytest.approx(score), "score")
    assert own_output(model, X[0], 0) == (pytest.approx(-score), "score")


def test_the_network_learns():
    X, y, _ = load("iris")
    assert TorchMLPClassifier(steps=400).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
    X, y, _ = load("diabetes")
    first = TorchMLPRegressor(steps=400).fit(X[::2], y[::2])
    assert first.score(X[1::2], y[1::2]) > 0.35
    again = TorchMLPRegressor(steps=400).fit(X[::2], y[::2])
    np.testing.assert_array_equal(first.predict(X), again.predict(X))
