"""scripts/explain.py tabular."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

import explain
from _explain import tabular_models
from _explain.tables import default_tables

DATA = Path(os.environ.get("DATA_DIR", "data"))
BOSTON = "CRIM,ZN,INDUS,CHAS,NOX,RM,AGE,DIS,RAD,TAX,PTRATIO,B,LSTAT"
TREES = ("tree", "forest", "boosting")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("tabular")


@pytest.fixture(scope="module")
def results(output):
    return explain.main(["tabular", "--output", str(output)])


@pytest.mark.slow
def test_default_tables(output, results):
    assert json.loads((output / "results.json").read_text()) == results
    assert list(results["tables"]) == ["diabetes", "breast cancer"]
    models = {name: set(table["models"]) for name, table in results["tables"].items()}
    assert models["diabetes"] >= {"linear", *TREES, "MLP (torch)"}
    assert models["breast cancer"] >= models["diabetes"] | {"ridge", "calibrated SVM", "RBF SVM"}


@pytest.mark.slow
def test_scores(results):
    first, second = default_tables(0.25, 0)
    scores = {name: model["scores"] for name, model in results["tables"]["diabetes"]["models"].items()}
    expected = r2_score(first.y_test, LinearRegression().fit(first.X, first.y).predict(first.X_test))
    assert scores["linear"]["R²"] == pytest.approx(expected)
    assert all(-0.1 < one["R²"] < 0.6 for one in scores.values())
    assert scores["MLP (torch)"]["R²"] > 0.25
    accuracies = [model["scores"]["accuracy"] for model in results["tables"]["breast cancer"]["models"].values()]
    assert all(0.88 < accuracy < 0.99 for accuracy in accuracies)
    assert len(second.X_test) == results["tables"]["breast cancer"]["test"] == 143


@pytest.mark.slow
def test_importances(results):
    for table in results["tables"].values():
        for model in table["models"].values():
            assert sum(model["importance"]["shares"].values()) == pytest.approx(1)
    for name in TREES:
        shares = results["tables"]["diabetes"]["models"][name]["importance"]["shares"]
        assert set(sorted(shares, key=shares.get)[-2:]) == {"bmi", "s5"}


@pytest.mark.slow
def test_contributions_sum_to_predictions(results):
    for table in results["tables"].values():
        assert len(table["rows"]) == 3
        for row in table["rows"]:
            for name, one in row["models"].items():
                if name == "RBF SVM":
                    assert "kernel='linear'" in one["error"]
                    continue
                assert sum(one["contributions"].values()) == pytest.approx(one["output"], rel=1e-3, abs=1e-3)
                assert one["difference"] == pytest.approx(0, abs=1e-3 * max(1, abs(one["output"])))
                if table["task"] == "regression":
                    assert one["output"] == pytest.approx(float(one["prediction"]), rel=1e-3)


@pytest.mark.slow
def test_rows_are_of_the_test_part(results):
    table = default_tables(0.25, 0)[1]
    for row in results["tables"]["breast cancer"]["rows"]:
        assert list(row["values"].values()) == table.X_test[row["row"]].tolist()
        assert row["truth"] == table.classes[table.y_test[row["row"]]]


@pytest.mark.slow
def test_pictures(output, results):
    for name in ("diabetes.png", "breast_cancer.png"):
        pixels = np.asarray(Image.open(output / name).convert("RGB"))
        assert pixels.shape[0] > 900
        assert pixels.shape[1] > 900
        assert len(np.unique(pixels.reshape(-1, 3)[::37], axis=0)) > 50


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_opens_without_a_network(output, results, browser):
    page = browser.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((output / "tabular.html").as_uri())
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1
    widths = page.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == 2
    assert min(widths) > 700
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("summary", has_text="Every contribution").first.click()
    assert page.locator(".card table").first.is_visible() is False  # the models' weights, still folded
    assert page.locator(".card >> text=<BIAS>").count() > 10
    page.close()


def test_a_csv_file_with_words_and_gaps(tmp_path, capsys):
    chance = np.random.default_rng(0)
    size, colour = chance.normal(size=200), chance.choice(["red", "blue"], size=200)
    kind = np.where((colour == "red") & (size > -0.5), "big", "small")
    lines = [f"{s:.3f},{c},{k}" for s, c, k in zip(size, colour, kind, strict=True)]
    lines[3] = lines[3].replace(lines[3].split(",")[0], "")
    path = tmp_path / "things.csv"
    path.write_text("size,colour,kind\n" + "\n".join(lines) + "\n")
    words = ["tabular", "--csv", str(path), "--target", "kind", "--missing", "mean", "--models", "[linear,tree]"]
    results = explain.main([*words, "--rows", "[0, 4]", "--output", str(tmp_path / "out")])
    table = results["tables"]["things"]
    assert table["features"] == ["size", "colour=blue", "colour=red"]
    assert table["classes"] == ["big", "small"]
    assert [row["row"] for row in table["rows"]] == [0, 4]
    assert list(table["models"]) == ["linear", "tree"]
    assert table["models"]["tree"]["scores"]["accuracy"] > 0.95
    assert "things" in capsys.readouterr().out


def test_no_header_and_names_with_hyphens(tmp_path):
    rows = np.random.default_rng(0).normal(size=(120, 3)).round(3)
    target = (2 * rows[:, 1]).round(4)
    path = tmp_path / "plain.csv"
    np.savetxt(path, np.column_stack([rows, target]), delimiter=",", fmt="%.4f")
    words = ["tabular", "--csv", str(path), "--no-header", "--feature-names", "a,b,c", "--models", "[linear]"]
    results = explain.main([*words, "--output", str(tmp_path / "out")])
    table = results["tables"]["plain"]
    assert (table["task"], table["features"], table["train"] + table["test"]) == ("regression", ["a", "b", "c"], 120)
    assert table["models"]["linear"]["importance"]["shares"]["b"] == pytest.approx(1, abs=1e-3)
    assert table["models"]["linear"]["scores"]["R²"] > 0.999


@pytest.mark.skipif(not (DATA / "boston_housing.csv").is_file(), reason="no boston_housing.csv in DATA_DIR")
@pytest.mark.slow
def test_boston(tmp_path):
    words = ["tabular", "--csv", str(DATA / "boston_housing.csv"), "--no-header", "--feature-names", f"{BOSTON},MEDV"]
    models = "[linear,tree,forest,boosting,'MLP (torch)']"
    results = explain.main([*words, "--target", "MEDV", "--models", models, "--output", str(tmp_path)])
    table = results["tables"]["boston_housing"]
    assert table["target"] == "MEDV"
    assert table["features"] == BOSTON.split(",")
    assert table["train"] + table["test"] == 506
    scores = {name: model["scores"]["R²"] for name, model in table["models"].items()}
    assert 0.6 < scores["linear"] < 0.75
    assert min(scores["forest"], scores["boosting"], scores["MLP (torch)"]) > 0.72
    for name in TREES:
        shares = table["models"][name]["importance"]["shares"]
        assert set(sorted(shares, key=shares.get)[-2:]) == {"RM", "LSTAT"}


@pytest.mark.slow
def test_a_missing_library_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tabular_models, "find_spec", lambda name: None)
    assert "XGBoost" not in tabular_models.regressors()
    assert "LightGBM" not in tabular_models.classifiers()
    with pytest.raises(SystemExit):
        explain.main(["tabular", "--models", "[XGBoost]", "--output", str(tmp_path)])
    assert "XGBoost is not installed: pip install -e" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{i},{i * 1.5}" for i in range(60)))
    monkeypatch.setattr(tabular_models, "TorchMLPRegressor", lambda seed: LinearRegression())
    explain.main(["tabular", "--csv", str(tmp_path / "t.csv"), "--output", str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert "XGBoost is not installed" in out
    assert "LightGBM is not installed" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "missing.csv"], "there is no file missing.csv"),
        (["--target", "price"], "add --csv FILE"),
        (["--no-header"], "add --csv FILE"),
        (["--models", "[forrest]"], "there is no model 'forrest'; known are linear, tree"),
        (["--test-size", "1.5"], "must be a share between 0 and 1, found 1.5"),
        (["--rows", "[1000]", "--models", "[linear]"], "1000 is not a test row of diabetes; they are 0 to 110"),
        (["--csv", "FILE", "--target", "price"], "its columns are a, b"),
        (["--csv", "FILE", "--feature-names", "x,y,z,w"], "has 3 columns, found 4 names"),
        (["--csv", "FILE", "--feature-names", "x,x"], "two columns 'x'"),
        (["--csv", "FILE", "--task", "regression", "--target", "word"], "is not a number but"),
        (["--csv", "FILE", "--target", "a", "--task", "classification"], "has one row, which cannot be split"),
    ],
)
def test_a_mistake_is_one_line(words, message, tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text("a,b,word\n" + "\n".join(f"{i},{i % 7},{'even' if i % 2 == 0 else 'odd'}" for i in range(150)))
    words = [str(path) if word == "FILE" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        explain.main(["tabular", *words, "--output", str(tmp_path / "out")])
    assert ended.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.match("error: ", lines[0])
    assert message in lines[0]
