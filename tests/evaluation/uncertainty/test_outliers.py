"""Scores against their formulas in float64, neighbours against scikit-learn's, separation against its curve."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from evaluation.uncertainty import KNearestScore, energy, max_probability, separation

LOGITS = np.random.default_rng(0).normal(size=(50, 7)) * 30


def test_scores_of_logits():
    np.testing.assert_allclose(max_probability(LOGITS), softmax(LOGITS, axis=1).max(1), rtol=1e-12)
    np.testing.assert_allclose(energy(LOGITS, 2.0), 2 * logsumexp(LOGITS / 2, axis=1), rtol=1e-12)
    assert isinstance(energy(torch.from_numpy(LOGITS)), torch.Tensor)
    assert energy(np.full((1, 3), 1e5))[0] == pytest.approx(1e5 + np.log(3))


def test_distances_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    known, new = rng.normal(size=(200, 8)), rng.normal(size=(30, 8))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (known, new)]
    distances, _ = NearestNeighbors(n_neighbors=9).fit(unit[0]).kneighbors(unit[1])
    np.testing.assert_allclose(KNearestScore(9).fit(known)(new), -distances[:, -1], atol=1e-5)
    assert KNearestScore(1).fit(known)(known).max() == pytest.approx(0, abs=1e-3)


def test_separation_is_that_of_the_curve():
    rng = np.random.default_rng(2)
    inside, outside = rng.normal(1, 1, 1000).round(1), rng.normal(0, 1, 700).round(1)
    target = np.repeat([1, 0], [1000, 700])
    false, true, _ = roc_curve(target, np.concatenate([inside, outside]), drop_intermediate=False)
    found = separation(inside, outside)
    assert found["auroc"] == pytest.approx(roc_auc_score(target, np.concatenate([inside, outside])))
    assert found["fpr95"] == pytest.approx(false[np.argmax(true >= 0.95)])


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"logits must be \[N, K\], found \[3\]"):
        max_probability([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="temperature must be above 0, found 0"):
        energy(LOGITS, 0)
    with pytest.raises(ValueError, match="k=50 neighbours need as many features, found 7"):
        KNearestScore().fit(np.ones((7, 2)))
    with pytest.raises(ValueError, match=r"found \[0\] and \[1\]"):
        separation(np.ones(0), [1.0])
    with pytest.raises(ValueError, match="found NaN"):
        separation([1.0], [float("nan")])
