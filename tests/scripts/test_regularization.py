"""scripts/regularization.py: its fits against exact arithmetic, optimality conditions and brute force."""

import json

import mpmath
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LinearRegression, Ridge
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import regularization
from _regularization import norm_balls, polynomial_fits
from _regularization.polynomial_fits import MODELS, fit_normalized, powers, sample, truth


def exact_ridge(x, y, degree, penalty):
    """Coefficients and intercept of ridge on centred columns of unit length, in 60 digits."""
    with mpmath.workdps(60):
        columns = [[mpmath.mpf(float(v)) ** k for v in x] for k in range(1, degree + 1)]
        y = [mpmath.mpf(float(v)) for v in y]
        y_mean = mpmath.fsum(y) / len(y)
        means = [mpmath.fsum(column) / len(column) for column in columns]
        centred = [[v - mean for v in column] for column, mean in zip(columns, means, strict=True)]
        norms = [mpmath.sqrt(mpmath.fsum(v * v for v in column)) for column in centred]
        z = mpmath.matrix([[v / norm for v in column] for column, norm in zip(centred, norms, strict=True)])
        gram = z * z.T + penalty * mpmath.eye(degree)
        w = mpmath.lu_solve(gram, z * mpmath.matrix([v - y_mean for v in y]))
        raw = [w[k] / norms[k] for k in range(degree)]
        return [float(v) for v in raw], float(y_mean - mpmath.fsum(m * v for m, v in zip(means, raw, strict=True)))


def test_the_noise_is_that_of_numpys_global_generator():
    np.random.seed(0)
    noise = np.random.normal(0, 0.05, 50)
    x, y = sample(0)
    assert (x[0], x[-1], len(x)) == (-10, 10, 50)
    np.testing.assert_array_equal(y, 0.001 * (-(x**3) + x**2 + x) + noise)


def test_ridge_is_the_closed_form_in_exact_arithmetic():
    x, y = sample(0)
    coefficients, intercept = exact_ridge(x, y, 30, 0.5)
    fitted = fit_normalized(MODELS["L2"], powers(x), y)
    np.testing.assert_allclose(fitted.coefficients, coefficients, rtol=1e-8, atol=1e-45)
    assert fitted.intercept == pytest.approx(intercept, rel=1e-10)


def test_without_penalty_it_is_least_squares():
    x, y = sample(0)
    coefficients, intercept = exact_ridge(x, y, 30, 0)
    with mpmath.workdps(60):
        exact = [float(intercept + mpmath.polyval([*coefficients[::-1], 0], mpmath.mpf(float(v)))) for v in x]
    fitted = fit_normalized(MODELS["none"], powers(x), y)
    # The columns' condition number is 2e11.
    np.testing.assert_allclose(fitted(x), exact, atol=2e-5)
    np.testing.assert_allclose(fitted.coefficients, coefficients, rtol=1e-3)
    line = fit_normalized(LinearRegression(), powers(x, 3), y)
    np.testing.assert_allclose(line.coefficients, LinearRegression().fit(powers(x, 3), y).coef_, rtol=1e-9)


def test_the_lasso_meets_its_optimality_conditions():
    x, y = sample(0)
    columns = powers(x)
    centred = columns - columns.mean(0)
    z = centred / np.linalg.norm(centred, axis=0)
    fitted = fit_normalized(MODELS["L1"], columns, y)
    w = fitted.coefficients * np.linalg.norm(centred, axis=0)
    slope = z.T @ (y - y.mean() - z @ w) / len(y)  # the negative gradient of half the mean square
    active = w != 0
    assert active.sum() == 3
    np.testing.assert_allclose(slope[active], 0.001 * np.sign(w[active]), rtol=1e-8)
    assert np.abs(slope[~active]).max() < 0.001
    assert fitted.intercept == pytest.approx(y.mean() - columns.mean(0) @ fitted.coefficients)


def test_normalising_divides_by_the_norm_and_not_by_the_deviation():
    x, y = sample(3)
    columns = powers(x, 4)
    fitted = fit_normalized(Ridge(0.5), columns, y)
    centred = columns - columns.mean(0)
    by_deviation = Ridge(0.5 * len(x), fit_intercept=False).fit(centred / centred.std(0), y - y.mean())
    np.testing.assert_allclose(fitted.coefficients, by_deviation.coef_ / centred.std(0), rtol=1e-7)
    constant = np.column_stack([columns, np.ones(len(x))])
    np.testing.assert_allclose(fit_normalized(Ridge(0.5), constant, y).coefficients[:4], fitted.coefficients, rtol=1e-9)


@pytest.mark.parametrize("radius", [0.05, 0.2, 0.4, 5.0])
def test_the_constrained_optima_agree_with_brute_force(radius):
    loss = norm_balls.diabetes_loss()
    angles = np.linspace(0, 2 * np.pi, 200_001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for within, order in ((norm_balls.within_l1, 1), (norm_balls.within_l2, 2)):
        fitted = within(loss, radius)
        if np.linalg.norm(loss.optimum, order) <= radius:
            np.testing.assert_allclose(fitted, loss.optimum)
            continue
        assert np.linalg.norm(fitted, order) == pytest.approx(radius, rel=1e-9)
        rim = radius * circle / np.linalg.norm(circle, order, axis=1)[:, None]
        assert loss(fitted) <= loss(rim).min() + 1e-12
        assert loss(fitted) == pytest.approx(loss(rim).min(), rel=1e-8)


def test_the_loss_agrees_with_the_data():
    from sklearn.datasets import load_diabetes
    from sklearn.preprocessing import scale

    data = load_diabetes()
    x, y = scale(data.data[:, [2, 3]]), scale(data.target)
    loss, w = norm_balls.diabetes_loss(), np.array([0.3, -0.2])
    assert loss(w) == pytest.approx(np.mean((y - x @ w) ** 2) / 2, rel=1e-12)
    np.testing.assert_allclose(loss.optimum, LinearRegression(fit_intercept=False).fit(x, y).coef_, rtol=1e-10)


def test_polynomial_and_geometry(tmp_path):
    results = regularization.main(["--parts", "[polynomial, geometry]", "--output", str(tmp_path)])
    assert json.loads((tmp_path / "results.json").read_text()) == results
    fits = results["polynomial"]["fits"]
    fine = np.linspace(-10, 10, 1001)
    for name, fit in fits.items():
        values = np.polyval([*fit["coefficients"][::-1], fit["intercept"]], fine)
        assert np.sqrt(np.mean((values - truth(fine)) ** 2)) == pytest.approx(fit["rmse_on_true_curve"], rel=1e-4), name
    errors = {name: fit["rmse_on_true_curve"] for name, fit in fits.items()}
    assert results["polynomial"]["nearest_to_true_curve"] == min(errors, key=errors.get) == "L1"
    assert [fits[name]["coefficients_not_0"] for name in ("none", "L2", "L1")] == [30, 30, 3]
    assert fits["none"]["rmse_on_points"] == min(fit["rmse_on_points"] for fit in fits.values())
    optima = results["geometry"]["optima"]
    assert (optima["L1"]["w"], optima["L1"]["zeros"], optima["L2"]["zeros"]) == ([0.2, 0.0], 1, 0)
    assert optima["no bound"]["loss"] < optima["L2"]["loss"] < optima["L1"]["loss"]
    for name, size in (("polynomial", (1300, 400)), ("geometry", (1050, 520))):
        picture = Image.open(tmp_path / f"{name}.png")
        assert picture.size == size
        assert np.asarray(picture.convert("L")).std() > 10


def test_the_table_has_the_coefficients():
    fitted, _ = polynomial_fits.fit_all(0)
    rows = polynomial_fits.table(fitted)
    assert len(rows) == 31
    assert float(rows["x^0"]["L2"]) == pytest.approx(fitted["L2"].intercept, rel=1e-3)
    assert float(rows["x^30"]["none"]) == pytest.approx(fitted["none"].coefficients[29], rel=1e-3)
    assert rows["x^5"]["L1"].strip() == "0"


def test_the_points_of_a_file(tmp_path):
    rng = np.random.default_rng(0)
    area, price = rng.uniform(1000, 3000, 40), rng.normal(0, 30, 40)
    price += 5e-4 * (area - 2000) ** 2 + 7000
    lines = [f"{a},{p},{'big' if a > 2000 else 'small'}" for a, p in zip(area, price, strict=True)]
    (tmp_path / "houses.csv").write_text("\n".join(["area $m^2$,price,kind", *lines]))
    words = ["--csv", str(tmp_path / "houses.csv"), "--target", "price", "--degree", "12", "--seed", "3"]
    results = regularization.main([*words, "--output", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    found = results["polynomial"]
    assert (found["feature"], found["target"], found["points"], found["held_out"]) == ("area $m^2$", "price", 30, 10)
    held = np.random.default_rng(3).permutation(40)[:10]
    fitted = np.setdiff1d(np.arange(40), held)
    line = np.polynomial.Polynomial.fit(area[fitted], price[fitted], 12)  # which scales its domain to [-1, 1] too
    for part, key in ((fitted, "rmse_on_points"), (held, "rmse_held_out")):
        error = np.sqrt(np.mean((line(area[part]) - price[part]) ** 2))
        assert found["fits"]["none"][key] == pytest.approx(error, rel=1e-4)
    assert found["fits"]["L1"]["rmse_held_out"] < 50 < np.std(price)
    assert found["fits"]["L1"]["coefficients_not_0"] < 12
    assert np.asarray(Image.open(tmp_path / "out" / "polynomial.png").convert("L")).std() > 10


def test_the_degree_of_the_generated_points_may_be_chosen():
    fits, rows = polynomial_fits.fit_all(0, degree=3)
    assert len(fits["none"].coefficients) == 3
    assert rows["none"]["rmse_on_true_curve"] < 0.03
    assert len(polynomial_fits.table(fits)) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "none.csv"], "--csv: there is no file none.csv"),
        (["--csv", "xy.csv", "--target", "a"], "--feature: choose one of xy.csv's columns b, c"),
        (["--csv", "xy.csv", "--feature", "d"], "--feature d is no column of numbers of xy.csv: it has a, b"),
        (["--csv", "xy.csv", "--target", "word", "--feature", "a"], "--target word of xy.csv must hold numbers"),
        (["--csv", "xy.csv", "--target", "nope"], "nope"),
        (["--csv", "same.csv"], "a curve needs two values of a, found 1"),
        (["--degree", "0"], "--degree must be 1 to 100, found 0"),
        (["--feature", "a"], "--target and --feature describe a CSV file: add --csv FILE"),
    ],
)
def test_a_wrong_file_is_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xy.csv").write_text("a,b,word,c\n1,2,x,3\n2,3,y,1\n3,4,x,0\n4,1,y,2\n5,1,x,2\n6,0,y,2\n")
    (tmp_path / "same.csv").write_text("a,b\n1,2\n1,3\n1,4\n1,5\n")
    with pytest.raises(SystemExit) as ended:
        regularization.main(words)
    assert ended.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("error: ")]
    assert message in line


@pytest.mark.slow
def test_networks(tmp_path):
    words = ["--parts", "[network]", "--epochs", "8", "--repeats", "2", "--output", str(tmp_path)]
    variants = regularization.main(words)["network"]["variants"]
    assert list(variants) == ["none", "weight decay", "L1", "dropout"]
    for name, row in variants.items():
        assert row["epochs"] == list(range(9))
        train, test = np.array(row["curves"]["train"]), np.array(row["curves"]["test"])
        assert train.shape == test.shape == (2, 9)
        np.testing.assert_allclose(train * 300, (train * 300).round(), atol=1e-9)  # 300 images
        assert row["gap"] == pytest.approx((train[:, -1] - test[:, -1]).mean())
        assert row["test_deviation"] == pytest.approx(np.std(test[:, -1], ddof=1))
        assert train[:, -1].min() > 0.5 > train[:, 0].max(), name
    # The variants differ only in their penalty: they start alike.
    starts = {row["curves"]["test"][0][0] for row in variants.values()}
    assert len(starts) == 1
    events = EventAccumulator(str(tmp_path / "tensorboard" / "weight_decay-1")).Reload()
    curve = [event.value for event in events.Scalars("accuracy/gap")]
    row = variants["weight decay"]["curves"]
    np.testing.assert_allclose(curve, np.array(row["train"][1][1:]) - np.array(row["test"][1][1:]), atol=1e-6)
    assert np.asarray(Image.open(tmp_path / "network.png").convert("L")).std() > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, found 0"),
        (["--repeats", "0"], "--repeats must be at least 1, found 0"),
        (["--radius", "0"], "--radius must be greater than 0, found 0"),
        (["--parts", "[]"], "--parts names no experiment"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        regularization.main(words)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
