import os
import subprocess
import sys
import warnings

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits

from clustering import KMeans
from reference.kmeans import best_objective, lloyd, objective, squared_distances


def blobs(n=3_000, d=5, k=8, seed=0, **options):
    return make_blobs(n, d, centers=k, random_state=seed, **options)


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks():
    expected = {"check_sample_weight_equivalence_on_dense_data": "seeds are drawn from other rows; scikit-learn's too"}
    results = check_estimator(KMeans(), expected_failed_checks=expected, on_fail=None)
    failed = [result["check_name"] for result in results if result["status"] == "failed"]
    assert failed == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("d", "k"), [(2, 10), (5, 40), (60, 12)])
def test_from_the_same_centres_as_scikit_learn(dtype, d, k):
    rows = blobs(40_000, d, k, cluster_std=3.0)[0].astype(dtype)
    init = rows[:k]
    # scikit-learn ends with an update of the centres, ours with a pass that labels rows. In float64 both converge.
    passes = 300 if dtype == "float64" else 10
    ours = KMeans(k, init=init, max_iter=passes + 1, tol=0).fit(rows)
    theirs = SklearnKMeans(k, init=init, n_init=1, max_iter=passes, tol=0).fit(rows)
    assert ours.cluster_centers_.dtype == dtype
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-4, atol=1e-4)
    assert np.mean(ours.labels_ == theirs.labels_) > 0.9999
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6 if dtype == "float64" else 1e-3)


def test_the_objective_is_that_of_the_returned_centres_and_labels():
    for dtype, std in (("float64", 1.0), ("float32", 3.0), ("float16", 1.0)):
        rows = blobs(20_000, cluster_std=std)[0].astype(dtype)
        model = KMeans(8, random_state=0).fit(rows)
        distances = squared_distances(rows, model.cluster_centers_)
        np.testing.assert_array_equal(model.labels_, distances.argmin(axis=1))
        assert model.inertia_ == pytest.approx(distances.min(axis=1).sum(), rel=1e-12)
        np.testing.assert_array_equal(model.predict(rows), model.labels_)
        np.testing.assert_array_equal(model.predict(rows[5:8]), model.labels_[5:8])
        assert model.score(rows) == pytest.approx(-model.inertia_, rel=1e-12)
        np.testing.assert_allclose(model.transform(rows), np.sqrt(distances), rtol=2e-3 if dtype == "float16" else 1e-5)


@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(3, 7), st.integers(1, 2)), elements=st.integers(-9, 9)))
def test_the_best_of_all_partitions_of_a_few_points(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        model = KMeans(3, n_init=10, random_state=0).fit(rows)
    best = best_objective(rows, 3)
    assert model.inertia_ <= 1.05 * best + 1e-9
    assert model.inertia_ >= best - 1e-9


def test_weights_are_repeated_points():
    rows = blobs(2_000, cluster_std=4.0)[0]
    counts = np.random.default_rng(0).integers(0, 4, len(rows))
    weighted = KMeans(8, init=rows[:8], max_iter=20, tol=0).fit(rows, sample_weight=counts)
    repeated = KMeans(8, init=rows[:8], max_iter=20, tol=0).fit(np.repeat(rows, counts, axis=0))
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-12)
    np.testing.assert_array_equal(np.repeat(weighted.labels_, counts), repeated.labels_)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=1e-12)
    assert weighted.score(rows, sample_weight=counts) == pytest.approx(-weighted.inertia_, rel=1e-12)


def test_weights_against_plain_lloyd():
    rows = blobs(1_000, cluster_std=4.0)[0]
    weights = np.random.default_rng(1).exponential(size=len(rows))
    ours = KMeans(8, init=rows[:8], max_iter=6, tol=0).fit(rows, sample_weight=weights)
    np.testing.assert_allclose(ours.cluster_centers_, lloyd(rows, rows[:8], weights, 5), rtol=1e-9)
    assert ours.inertia_ == pytest.approx(objective(rows, ours.cluster_centers_, weights), rel=1e-12)


def test_far_from_the_origin():
    rows, truth = blobs(20_000, 3, 10, seed=4)
    near = KMeans(10, random_state=0).fit(rows)
    far = KMeans(10, random_state=0).fit(rows + 1e5)
    theirs = SklearnKMeans(10, random_state=0).fit(rows + 1e5)
    assert adjusted_rand_score(far.labels_, near.labels_) > 0.9999
    assert far.inertia_ <= theirs.inertia_ * (1 + 1e-9)
    assert far.inertia_ == pytest.approx(objective(rows + 1e5, far.cluster_centers_), rel=1e-9)
    plain = faiss.Kmeans(3, 10, seed=1)
    plain.train((rows + 1e5).astype(np.float32))
    labels = plain.index.search((rows + 1e5).astype(np.float32), 1)[1][:, 0]
    assert adjusted_rand_score(truth, labels) < adjusted_rand_score(truth, far.labels_) - 0.05


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_any_scale(size):
    rows, truth = blobs(2_000, 3, 4, seed=2)
    model = KMeans(4, random_state=0).fit(rows * size)
    assert adjusted_rand_score(truth, model.labels_) == adjusted_rand_score(truth, KMeans(4).fit(rows).labels_)
    assert model.inertia_ == pytest.approx(objective(rows * size, model.cluster_centers_), rel=1e-9)


@pytest.mark.slow
def test_means_of_more_points_than_float32_counts():
    # 0 for the first half, 8 for the second: one cluster of 20 million points, more than 2^24, whose mean is 4.
    rows = np.zeros((20_000_000, 1), dtype=np.float32)
    rows[10_000_000:] = 8
    model = KMeans(1, init=[[1.0]]).fit(rows)
    assert model.cluster_centers_.item() == 4.0
    assert model.inertia_ == 16 * len(rows)
    counted = faiss.Kmeans(1, 1, niter=1, max_points_per_centroid=10**9)
    counted.train(rows, init_centroids=np.ones((1, 1), dtype=np.float32))
    assert abs(counted.centroids.item() - 4) > 0.5, "Faiss now counts correctly: update the documentation"


def test_better_than_faiss_and_scikit_learn_where_groups_overlap():
    rows = blobs(30_000, 24, 60, cluster_std=4.5)[0].astype(np.float32)
    ours = KMeans(60, n_init=2, random_state=0).fit(rows)
    theirs = SklearnKMeans(60, n_init=1, random_state=0).fit(rows)
    plain = faiss.Kmeans(24, 60, niter=25, max_points_per_centroid=10**9, seed=1)
    plain.train(rows)
    assert ours.inertia_ <= theirs.inertia_
    assert ours.inertia_ <= objective(rows, plain.centroids)


def test_every_algorithm_metric_and_seeding_finds_clear_clusters():
    rows, truth = blobs(60_000, 6, 5, seed=1, cluster_std=0.5)
    for options in ({}, {"init": "random", "n_init": 20}, {"algorithm": "minibatch"}, {"metric": "cosine"}):
        model = KMeans(5, random_state=0, **options).fit(rows.astype(np.float32))
        assert adjusted_rand_score(truth, model.labels_) > 0.999, options


def test_cosine():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4_000, 6)) * rng.exponential(size=(4_000, 1))
    model = KMeans(7, metric="cosine", random_state=0).fit(rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances = 1 - unit @ model.cluster_centers_.T
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(model.labels_, distances.argmin(axis=1))
    assert model.inertia_ == pytest.approx(distances.min(axis=1).sum(), rel=1e-10)
    np.testing.assert_allclose(model.transform(rows), distances, atol=1e-12)
    for cluster in range(7):
        mean = unit[model.labels_ == cluster].sum(axis=0)
        np.testing.assert_allclose(model.cluster_centers_[cluster], mean / np.linalg.norm(mean), atol=1e-2)


def test_empty_clusters_get_the_farthest_rows():
    rows = np.concatenate([blobs(500, 2, 1)[0], [[500.0, 0.0], [0.0, 900.0]]])
    init = np.concatenate([rows[:1], np.full((2, 2), 1e6)])
    model = KMeans(3, init=init).fit(rows)
    assert sorted(np.bincount(model.labels_)) == [1, 1, 500]
    assert model.labels_.tolist() == KMeans(3, init=init).fit(rows).labels_.tolist()


def test_fewer_distinct_rows_than_clusters():
    rows = np.repeat(np.arange(3.0), 50)[:, None] + 7e4
    with pytest.warns(ConvergenceWarning, match="only 3 of 5 clusters have rows"):
        model = KMeans(5, random_state=0).fit(rows)
    assert model.inertia_ == 0


PROGRAM = """
import hashlib, sys, numpy as np
from sklearn.datasets import make_blobs
from clustering import KMeans
for k, d, metric in ((9, 3, "euclidean"), (40, 20, "euclidean"), (30, 17, "cosine")):
    rows = make_blobs(50_000, d, centers=k, cluster_std=4.0, random_state=0)[0].astype(np.float32)
    model = KMeans(k, random_state=1, max_iter=8, n_init=3, metric=metric).fit(rows)
    for value in (model.cluster_centers_, model.labels_, np.float64(model.inertia_)):
        print(hashlib.sha256(value.tobytes()).hexdigest())
"""


def test_distances_have_the_same_bits_with_any_number_of_threads():
    rng = np.random.default_rng(0)
    rows, centres = rng.normal(size=(500, 300)), rng.normal(size=(300, 300))
    model = KMeans(300, init=centres, max_iter=1).fit(rows)
    found = []
    for threads in (1, 4):
        with threadpool_limits(threads, user_api="blas"):
            found.append(model.transform(rows))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
@pytest.mark.parametrize("weight", [5e-324, 1e-310, 1e-300, 1e300])
def test_weights_of_any_size(algorithm, weight):
    rows = make_blobs(200, 3, centers=3, cluster_std=0.1, random_state=0)[0]
    usual, scaled = (
        KMeans(3, algorithm=algorithm, random_state=0).fit(rows, sample_weight=np.full(200, each))
        for each in (1.0, weight)
    )
    found, expected = (model.cluster_centers_[model.cluster_centers_[:, 0].argsort()] for model in (scaled, usual))
    np.testing.assert_allclose(found, expected, rtol=1e-3 if algorithm == "minibatch" else 1e-9, atol=1e-3)
    assert scaled.inertia_ == pytest.approx(usual.inertia_ * weight, rel=0.1)
    assert scaled.score(rows, sample_weight=np.full(200, weight)) == pytest.approx(-scaled.inertia_)


def test_minibatches_of_negligible_weight_move_nothing():
    rows = make_blobs(400, 3, centers=3, cluster_std=0.1, random_state=0)[0]
    weights = np.where(np.arange(400) % 40 == 0, 1.0, 5e-324)
    tiny, none = (
        KMeans(3, algorithm="minibatch", random_state=0).fit(rows, sample_weight=each)
        for each in (weights, np.where(weights == 1, 1.0, 1e-30))
    )
    np.testing.assert_array_equal(tiny.cluster_centers_, none.cluster_centers_)
    assert np.isfinite(tiny.inertia_)


@pytest.mark.slow
def test_the_same_bits_in_any_process_with_any_number_of_threads():
    outputs = []
    for threads in ("1", "2", "3"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "n_clusters must be an integer of at least 1, found 0"),
        ({"n_clusters": 2.5}, "n_clusters must be an integer"),
        ({"n_clusters": 101}, "n_samples=100 should be >= n_clusters=101"),
        ({"n_init": 0}, "n_init must be"),
        ({"max_iter": True}, "max_iter must be"),
        ({"tol": -1.0}, "tol must be"),
        ({"tol": float("nan")}, "tol must be"),
        ({"metric": "manhattan"}, "metric must be one of euclidean, cosine, found 'manhattan'"),
        ({"algorithm": "elkan"}, "algorithm must be one of lloyd, minibatch"),
        ({"init": "best"}, "init must be one of"),
        ({"init": np.zeros((8, 2))}, "init must have n_clusters=8 rows and 5 columns"),
        ({"init": np.full((8, 5), np.nan)}, "init must be finite"),
        ({"device": "tpu"}, "device must be 'auto', 'cpu', 'cuda'"),
        ({"device": "cuda:97"}, "device is 'cuda:97', but torch finds"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        KMeans(**options).fit(blobs(100)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [(np.nan, "NaN"), (np.inf, "infinity"), (1e200, "whose squares overflow")],
)
def test_bad_data(change, message):
    rows = blobs(100)[0]
    rows[57, 3] = change
    with pytest.raises(ValueError, match=message):
        KMeans(3).fit(rows)
    if not np.isfinite(change):
        with pytest.raises(ValueError, match=message):
            KMeans(3).fit(blobs(100)[0]).predict(rows)


@pytest.mark.parametrize(("init", "starts"), [("k-means++", 1), ("random", 10), (np.eye(4, 3), 1)])
def test_automatic_number_of_starts_is_that_of_scikit_learn(init, starts):
    data = np.random.default_rng(0).normal(size=(200, 3))
    ours = [KMeans(4, init=init, n_init=n_init, random_state=0).fit(data) for n_init in ("auto", starts)]
    np.testing.assert_array_equal(ours[0].cluster_centers_, ours[1].cluster_centers_)
    peer = SklearnKMeans(4, init=init, n_init="auto", random_state=0).fit(data)
    assert peer._n_init == starts
    assert ours[0].get_params()["n_init"] == "auto"
