"""The scalers against scikit-learn, scipy and the definitions."""

import io
import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize, minimize_scalar
from sklearn.base import clone
from sklearn.calibration import _SigmoidCalibration, _TemperatureScaling
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from evaluation import (
    CalibratedNetwork,
    DirichletCalibration,
    HistogramBinning,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    VectorScaling,
    calibration_error,
    negative_log_likelihood,
)

ALL = [
    TemperatureScaling,
    VectorScaling,
    PlattScaling,
    IsotonicCalibration,
    HistogramBinning,
    DirichletCalibration,
]
K = 4


def sample(n=800, classes=K, temperature=2.5, seed=0, dtype=torch.float64):
    """Logits whose best temperature is about `temperature`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return (temperature * logits).to(dtype), labels


def loss(logits, labels):
    return torch.nn.functional.cross_entropy(logits.double(), labels).item()


@pytest.mark.parametrize("temperature", [0.02, 0.3, 1.0, 2.5, 50.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_temperature_is_the_optimum(temperature, dtype):
    logits, labels = sample(temperature=temperature, dtype=dtype)
    scaler = TemperatureScaling().fit(logits, labels)
    best = minimize_scalar(lambda b: loss(logits.double() * b, labels), bounds=(0.2 / temperature, 5 / temperature))
    found = scaler.temperature_.item()
    assert loss(logits.double() / found, labels) <= best.fun + 1e-12
    assert found == pytest.approx(1 / best.x, rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.2)
    assert scaler.temperature_.dtype == torch.float64


def test_temperature_of_many_rows_starts_from_a_sample():
    logits, labels = sample(100_000, dtype=torch.float32)
    found = TemperatureScaling().fit(logits, labels).temperature_.item()
    peer = _TemperatureScaling().fit(logits.double().numpy(), labels.numpy())
    assert found == pytest.approx(1 / peer.beta_, rel=1e-5)
    assert loss(logits.double() / found, labels) <= loss(logits.double() * float(peer.beta_), labels) + 1e-13


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_a_temperature_beyond_the_bounds_is_the_bound(scale):
    logits, labels = sample()
    with pytest.warns(UserWarning, match="best temperature is beyond"):
        scaler = TemperatureScaling(bounds=(0.1, 10)).fit(logits * scale, labels)
    assert scaler.temperature_.item() == pytest.approx(0.1 if scale < 1 else 10)


def test_labels_that_contradict_the_logits_give_the_greatest_temperature():
    logits, labels = sample()
    with pytest.warns(UserWarning, match="best temperature is beyond 10000"):
        scaler = TemperatureScaling().fit(-logits, labels)
    assert scaler.temperature_.item() == 1e4


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([[2.0, 0.0], [0.0, 1.0]], [0, 1], "every label has the largest logit"),
        ([[2.0, 0.0], [1.0, 0.0]], [0, 0], "every label has the largest logit"),
        ([[2.0, 2.0], [1.0, 0.0]], [1, 0], "every label has the largest logit"),
        ([[1.0, 1.0], [0.0, 0.0]], [0, 1], "every temperature gives the same loss"),
        ([[1.0, np.inf], [0.0, 0.0]], [0, 1], "must be finite, found inf"),
        ([[1.0, -np.inf], [0.0, 0.0]], [0, 1], "must be finite, found -inf"),
        ([[1.0, np.nan], [0.0, 0.0]], [0, 1], "must be finite, found NaN"),
        ([[1.0, 0.0], [0.0, 0.0]], [0, 2], "0..1 for 2 classes"),
    ],
)
def test_temperature_refuses_bad_data(logits, labels, words):
    with pytest.raises(ValueError, match=r".") as caught:
        TemperatureScaling().fit(logits, labels)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(2, 30), st.integers(2, 5)), elements=st.integers(-20, 20)), st.data())
def test_temperature_never_changes_the_prediction(logits, data):
    rows, classes = logits.shape
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    scaler = TemperatureScaling(bounds=(0.05, 100.0))
    own = logits[np.arange(rows), labels]
    if (own == logits.max(1)).all():
        with pytest.raises(ValueError, match=r"largest logit|every temperature"):
            scaler.fit(logits.astype(float), labels)
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the best temperature")
        scaler.fit(logits.astype(float), labels)
    assert 0.05 <= scaler.temperature_.item() <= 100
    scaled = scaler(torch.tensor(logits, dtype=torch.float64))
    assert scaled.argmax(1).tolist() == logits.argmax(1).tolist()
    before, after = (loss(torch.as_tensor(z, dtype=torch.float64), torch.tensor(labels)) for z in (logits, scaled))
    assert after <= before + 1e-9


def test_vector_scaling_is_the_optimum():
    logits, labels = sample()
    z, y = logits.numpy(), labels.numpy()

    def objective(parameters):
        raw = z * parameters[:K] + parameters[K:]
        top = raw.max(1)
        nll = np.log(np.exp(raw - top[:, None]).sum(1)) + top - raw[np.arange(len(y)), y]
        return nll.mean() + 1e-3 * ((parameters[:K] - 1) ** 2).sum() + 1e-3 * (parameters[K:] ** 2).sum()

    best = minimize(objective, np.r_[np.ones(K), np.zeros(K)], method="BFGS", options={"gtol": 1e-7})
    scaler = VectorScaling(l2=1e-3).fit(logits, labels)
    found = torch.cat([scaler.scale_, scaler.bias_]).numpy()
    assert objective(found) <= best.fun + 1e-10
    np.testing.assert_allclose(found, best.x, atol=1e-4)
    expected = (logits * scaler.scale_ + scaler.bias_).softmax(1)
    torch.testing.assert_close(scaler.predict_proba(logits), expected)


def test_dirichlet_calibration_is_the_optimum():
    logits, labels = sample(300, 3)
    log_q, y = logits.log_softmax(1).numpy(), labels.numpy()

    def objective(flat):
        weight, bias = flat[:9].reshape(3, 3), flat[9:]
        raw = log_q @ weight.T + bias
        top = raw.max(1)
        nll = np.log(np.exp(raw - top[:, None]).sum(1)) + top - raw[np.arange(len(y)), y]
        off = weight[~np.eye(3, dtype=bool)]
        return nll.mean() + 0.05 * (off**2).mean() + 0.02 * (bias**2).mean()

    best = minimize(objective, np.r_[np.eye(3).ravel(), np.zeros(3)], method="BFGS", options={"gtol": 1e-7})
    scaler = DirichletCalibration(off_diagonal=0.05, intercept=0.02).fit(logits, labels)
    found = np.r_[scaler.weight_.numpy().ravel(), scaler.bias_.numpy()]
    assert objective(found) <= best.fun + 1e-10
    np.testing.assert_allclose(found, best.x, atol=1e-3)


def log_odds(logits):
    p = logits.double().softmax(1)
    return (p / (1 - p)).log()


def test_platt_scaling_agrees_with_scikit_learn():
    logits, labels = sample(500, temperature=1.0)
    odds = log_odds(logits).numpy()
    peers = [_SigmoidCalibration().fit(odds[:, k], (labels == k).numpy().astype(int)) for k in range(K)]
    scaler = PlattScaling().fit(logits, labels)
    np.testing.assert_allclose(scaler.slope_, [-peer.a_ for peer in peers], rtol=1e-3)
    np.testing.assert_allclose(scaler.intercept_, [-peer.b_ for peer in peers], rtol=1e-3, atol=1e-4)
    columns = np.stack([peer.predict(odds[:, k]) for k, peer in enumerate(peers)], axis=1)
    np.testing.assert_allclose(scaler.predict_proba(logits), columns / columns.sum(1, keepdims=True), atol=1e-4)


def test_isotonic_calibration_agrees_with_scikit_learn():
    logits, labels = sample(500, temperature=1.0)
    new = sample(200, temperature=1.5, seed=1)[0]
    odds, new_odds = log_odds(logits).numpy(), log_odds(new).numpy()
    columns = np.stack(
        [
            IsotonicRegression(out_of_bounds="clip").fit(odds[:, k], labels == k).predict(new_odds[:, k])
            for k in range(K)
        ],
        axis=1,
    )
    found = IsotonicCalibration(floor=0).fit(logits, labels).predict_proba(new)
    np.testing.assert_allclose(found, columns / columns.sum(1, keepdims=True), atol=1e-9)
    kept = IsotonicCalibration().fit(logits, labels).predict_proba(new)
    assert kept.min() >= 1 / 502 / K
    assert not np.isinf(negative_log_likelihood(kept, sample(200, seed=1)[1]))


def test_histogram_binning_agrees_with_the_definition():
    logits, labels = sample(500, temperature=1.0)
    p = logits.softmax(1)
    columns = torch.zeros_like(p)
    for k in range(K):
        bins = (p[:, k] * 7).ceil().long() - 1
        for b in range(7):
            inside = bins == b
            if inside.any():
                columns[inside, k] = (labels[inside] == k).double().mean()
    scaler = HistogramBinning(n_bins=7, floor=0).fit(logits, labels)
    torch.testing.assert_close(scaler.predict_proba(logits), columns / columns.sum(1, keepdim=True))
    quantile = HistogramBinning(n_bins=5, strategy="quantile").fit(logits, labels)
    counts = torch.searchsorted(quantile.edges_[0], p[:, 0]).bincount()
    assert counts.tolist() == [100] * 5


def test_an_empty_bin_keeps_its_centre():
    scaler = HistogramBinning(n_bins=4, floor=0).fit([-5.0, 5.0, 5.0], [0, 1, 0])
    assert scaler.values_.tolist() == [[0.0, 0.375, 0.625, 0.5]]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_scaler_lowers_the_loss_and_gives_probabilities(make, dtype):
    logits, labels = sample(2000, temperature=4.0, dtype=dtype)
    scaler = make().fit(logits, labels)
    p = scaler.predict_proba(logits)
    assert p.dtype == torch.float64
    torch.testing.assert_close(p.sum(1), torch.ones(2000, dtype=torch.float64))
    assert negative_log_likelihood(p, labels) < negative_log_likelihood(logits, labels, from_logits=True)
    assert calibration_error(p, labels) < 0.5 * calibration_error(logits, labels, from_logits=True)
    out = scaler(logits)
    assert out.dtype == dtype
    assert out.shape == logits.shape
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-3}.get(dtype, 0.05)
    torch.testing.assert_close(out.double().softmax(1), p, atol=tolerance, rtol=0)


@pytest.mark.parametrize("make", ALL)
def test_binary_logits_are_two_columns(make):
    logits, labels = sample(600, 2, temperature=3.0)
    z = logits[:, 1] - logits[:, 0]
    both = torch.stack([torch.zeros_like(z), z], dim=1)
    one, two = make().fit(z, labels), make().fit(both, labels)
    torch.testing.assert_close(one.predict_proba(z), two.predict_proba(both))
    assert one(z).shape == z.shape
    torch.testing.assert_close(one(z).sigmoid(), one.predict_proba(z)[:, 1])
    array = make().fit(z.numpy(), labels.numpy()).predict_proba(z.tolist())
    assert isinstance(array, np.ndarray)
    np.testing.assert_allclose(array, one.predict_proba(z))


@pytest.mark.parametrize("make", ALL)
def test_state_is_saved_with_the_network(make):
    torch.manual_seed(0)
    logits, labels = sample(300)
    scaler = make().fit(logits, labels)
    network = torch.nn.Sequential(torch.nn.Linear(3, K), scaler)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = torch.nn.Sequential(torch.nn.Linear(3, K), make())
    other.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randn(5, 3)
    torch.testing.assert_close(other(images), network(images), rtol=0, atol=0)
    assert {f"1.{name}" for name in scaler.fitted} <= network.state_dict().keys()
    refitted = torch.nn.Sequential(network[0], make().fit(*sample(200, seed=3)))
    other.load_state_dict(refitted.state_dict())  # the shapes may differ
    torch.testing.assert_close(other(images), refitted(images), rtol=0, atol=0)


@pytest.mark.parametrize("make", ALL)
def test_estimators_follow_scikit_learn(make):
    logits, labels = sample(100)
    scaler = make()
    with pytest.raises(ValueError, match="not fitted yet"):
        scaler.predict_proba(logits)
    assert scaler.fit(logits, labels) is scaler
    copy = clone(scaler)
    assert copy.get_params() == scaler.get_params()
    assert not copy.__sklearn_is_fitted__()
    json.dumps(scaler.get_params())
    for name, value in scaler.get_params().items():
        assert copy.set_params(**{name: value}) is copy
        assert f"{name}=" in repr(copy)
    with pytest.raises(ValueError, match="no parameter nonsense"):
        copy.set_params(nonsense=1)


@pytest.mark.parametrize("make", [kind for kind in ALL if kind is not TemperatureScaling])
def test_another_number_of_classes_is_refused(make):
    scaler = make().fit(*sample(100))
    with pytest.raises(ValueError, match=rf"must have the {K} classes of .* fit, found \[2, 3\]"):
        scaler(torch.zeros(2, 3))


@pytest.mark.parametrize("make", [kind for kind in ALL if kind is not TemperatureScaling])
def test_separable_labels_stay_finite(make):
    logits, labels = torch.tensor([[3.0, 0.0, 1.0], [0.0, 3.0, 1.0], [2.0, 0.0, 0.0], [0.0, 2.0, 3.0]]), [0, 1, 0, 2]
    scaler = make().fit(logits, torch.tensor(labels))
    assert all(getattr(scaler, name).isfinite().all() for name in scaler.fitted)
    p = scaler.predict_proba(logits)
    assert p.isfinite().all()
    assert negative_log_likelihood(p, torch.tensor(labels)) < 1.2


@pytest.mark.parametrize("make", [kind for kind in ALL if kind is not TemperatureScaling])
def test_a_class_without_examples_is_refused_and_named(make):
    logits, labels = sample(100)
    some = labels != 3
    with pytest.raises(ValueError, match=r"found no example of class 3, which .*TemperatureScaling$"):
        make().fit(logits[some], labels[some])
    with pytest.raises(ValueError, match=r"no example of the classes 1, 2, 3, which"):
        make().fit(logits[labels == 0], labels[labels == 0])
    with pytest.raises(ValueError, match=r"the classes 2, 3, 4, 5, 6 and 3 others, which"):
        make().fit(torch.randn(4, 10), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"no example of class 1, which"):  # binary
        make().fit(torch.tensor([1.0, -1.0]), torch.tensor([0, 0]))


def test_a_temperature_needs_no_example_of_each_class():
    logits, labels = sample(2000)
    scaler = TemperatureScaling().fit(logits[labels != 3], labels[labels != 3])
    assert negative_log_likelihood(scaler.predict_proba(logits), labels) < loss(logits, labels)


@pytest.mark.parametrize("make", ALL)
def test_saturated_logits_are_distinguished(make):
    logits, labels = sample(400)
    scaler = make().fit(40 * logits, labels)  # most float64 probabilities are exactly 1
    p = scaler.predict_proba(40 * logits)
    assert p.isfinite().all()
    assert negative_log_likelihood(p, labels) < 1.0 + (make is HistogramBinning)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TemperatureScaling(bounds=(0.0, 1.0)), "bounds"),
        (lambda: TemperatureScaling(bounds=(2.0, 1.0)), "the least first, found"),
        (lambda: VectorScaling(l2=-1), "l2 must be a finite number of at least 0, found -1"),
        (lambda: DirichletCalibration(off_diagonal=float("nan")), "off_diagonal"),
        (lambda: DirichletCalibration(intercept=float("inf")), "intercept"),
        (lambda: IsotonicCalibration(floor=0.5), "floor must be None or a number"),
        (lambda: HistogramBinning(n_bins=0), "n_bins"),
        (lambda: HistogramBinning(strategy="width"), "strategy"),
    ],
)
def test_bad_options_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_gradients_pass_through_a_scaler_but_not_into_the_fit():
    logits, labels = sample(100)
    scaler = TemperatureScaling().fit(logits.requires_grad_(), labels)
    assert not scaler.temperature_.requires_grad
    scaler(logits).sum().backward()
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 1 / scaler.temperature_.item()))


def test_a_calibrated_network_is_the_network_and_the_scaler():
    def linear(num_classes, image_shape, activation):
        return torch.nn.Sequential(torch.nn.Linear(*image_shape, num_classes), activation())

    network = CalibratedNetwork(K, (3,), torch.nn.Identity, backbone=linear, scaler=VectorScaling)
    network.scaler.fit(*sample(100))
    images = torch.randn(6, 3)
    torch.testing.assert_close(network(images), network.scaler(network.network(images)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", ALL)
def test_on_a_gpu(make):
    logits, labels = sample(1000)
    expected = make().fit(logits, labels)
    found = make().fit(logits.cuda(), labels.cuda())
    assert all(getattr(found, name).is_cuda for name in found.fitted)
    torch.testing.assert_close(
        found.predict_proba(logits.cuda()).cpu(), expected.predict_proba(logits), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(expected.cuda()(logits.cuda()), found(logits.cuda()), atol=1e-4, rtol=1e-4)


def test_scikit_learn_searches_and_pipelines_take_a_scaler():
    logits, labels = (values.numpy() for values in sample(200))

    def score(scaler, logits, labels):
        return -negative_log_likelihood(scaler.predict_proba(logits), labels)

    search = GridSearchCV(DirichletCalibration(), {"off_diagonal": [1e-3, 1.0]}, scoring=score, cv=3)
    assert search.fit(logits, labels).best_params_.keys() == {"off_diagonal"}
    assert np.isfinite(cross_val_score(TemperatureScaling(), logits, labels, scoring=score, cv=3)).all()
    p = make_pipeline(FunctionTransformer(), TemperatureScaling()).fit(logits, labels).predict_proba(logits)
    np.testing.assert_allclose(p.sum(1), 1)


@pytest.mark.parametrize("cls", ALL)
def test_every_scaler_in_scikit_learns_tools(cls):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = rng.normal(size=(300, 3)) + 2 * np.eye(3)[labels]
    with pytest.raises(NotFittedError):
        check_is_fitted(cls())
    scaler = cls().fit(logits, labels)
    check_is_fitted(scaler)
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(scaler))
    chain = make_pipeline(FunctionTransformer(), cls()).fit(logits, labels)
    np.testing.assert_array_equal(chain.predict(logits), scaler.predict_proba(logits).argmax(1))
    assert chain.score(logits, labels) == pytest.approx(-log_loss(labels, scaler.predict_proba(logits)))
    grid = {name: [value] for name, value in cls().get_params().items()}
    searches = [GridSearchCV(cls(), grid, scoring=name, cv=3, error_score="raise") for name in (None, "neg_log_loss")]
    first, second = (search.fit(logits, labels).best_score_ for search in searches)
    assert first == pytest.approx(second)
    assert cross_val_predict(cls(), logits, labels, method="predict_proba", cv=3).shape == (300, 3)
