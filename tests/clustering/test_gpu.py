"""`KMeans` by torch: on a GPU where there is one, else on the CPU in its place."""

import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from clustering import KMeans, adjusted_rand_score
from clustering.engine import device as places
from clustering.engine.gpu import chunks
from clustering.rand.contingency import contingency

GPU = torch.cuda.is_available()


@pytest.fixture
def gpu(monkeypatch):
    """Make the CPU take the place of a GPU where there is none."""
    if not GPU:
        monkeypatch.setattr(places, "_found", lambda: 1)
        monkeypatch.setattr(places.torch, "device", lambda *_: torch.zeros(0).device)


def blobs(rows=3_000, dim=6, clusters=20, std=1.0):
    return make_blobs(rows, dim, centers=clusters, cluster_std=std, random_state=0)[0].astype(np.float32)


def both(rows, clusters, seed=0, **options):
    return [KMeans(clusters, device=device, random_state=seed, **options).fit(rows) for device in ("cpu", "cuda:0")]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_one_pass_from_the_same_centres_has_the_labels_of_the_cpu(gpu, metric):
    rows = blobs(std=9.0)
    cpu, torched = both(rows, 20, init=rows[:20], max_iter=1, metric=metric)
    np.testing.assert_array_equal(torched.labels_, cpu.labels_)
    assert torched.inertia_ == pytest.approx(cpu.inertia_, rel=1e-9)
    np.testing.assert_array_equal(torched.predict(rows), cpu.predict(rows))
    np.testing.assert_allclose(torched.transform(rows), cpu.transform(rows), rtol=1e-5, atol=1e-6)
    assert torched.score(rows) == pytest.approx(cpu.score(rows), rel=1e-9)


def test_separated_clusters_are_found(gpu):
    rows = blobs(std=0.1)
    cpu, torched = both(rows, 20)
    assert torched.inertia_ == pytest.approx(cpu.inertia_, rel=1e-6)


def test_overlapping_clusters_are_found_as_well_as_on_the_cpu(gpu):
    rows = blobs(1_000, 2, 8, 3.0)
    pairs = [both(rows, 8, seed) for seed in range(10)]
    assert np.median([torched.inertia_ / cpu.inertia_ for cpu, torched in pairs]) == pytest.approx(1, abs=2e-3)


def test_the_same_bits_again(gpu):
    rows = blobs(std=4.0)
    one, other = (KMeans(20, device="cuda:0", n_init=2, random_state=3).fit(rows) for _ in range(2))
    np.testing.assert_array_equal(one.cluster_centers_, other.cluster_centers_)
    np.testing.assert_array_equal(one.labels_, other.labels_)


def test_streamed_rows_batches_and_minibatch(gpu, monkeypatch):
    rows = blobs(std=0.1)
    expected = KMeans(20, device="cuda:0", random_state=0).fit(rows)
    monkeypatch.setattr(chunks, "free_memory", lambda device: 0)
    monkeypatch.setattr(chunks, "STREAMED", 7_000)
    streamed = KMeans(20, device="cuda:0", random_state=0).fit(rows)
    np.testing.assert_array_equal(streamed.labels_, expected.labels_)
    batches = KMeans(20, device="cuda:0", random_state=0).fit_batches(np.array_split(rows, 9))
    assert batches.inertia_ == pytest.approx(expected.inertia_, rel=1e-6)
    mini = KMeans(20, device="cuda:0", random_state=0, algorithm="minibatch").fit(rows)
    assert mini.inertia_ < 1.2 * expected.inertia_


def test_weights_are_repeated_rows(gpu):
    rows, weights = blobs(600), np.random.default_rng(0).integers(0, 4, 600).astype(float)
    options = {"init": rows[:20].copy(), "device": "cuda:0", "max_iter": 20}
    weighted = KMeans(20, **options).fit(rows, sample_weight=weights)
    repeated = KMeans(20, **options).fit(np.repeat(rows, weights.astype(int), axis=0))
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-6)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=1e-9)


def settings():
    """Return what a process may have chosen for its networks, by names."""
    return {
        "autocast": torch.autocast("cuda" if GPU else "cpu", torch.bfloat16),
        "inference": torch.inference_mode(),
        "another device": torch.device("meta"),
    }


@pytest.mark.parametrize("setting", [*settings(), "float64", "deterministic"])
def test_the_settings_of_a_network_change_nothing(gpu, setting):
    rows = blobs(std=8.0)
    expected = KMeans(20, device="cuda:0", random_state=0, n_init=1).fit(rows)
    torch.set_default_dtype(torch.float64 if setting == "float64" else torch.float32)
    torch.use_deterministic_algorithms(setting == "deterministic")
    try:
        with settings().get(setting, nullcontext()):
            found = KMeans(20, device="cuda:0", random_state=0, n_init=1).fit(rows)
            predicted, distances = expected.predict(rows), expected.transform(rows)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    np.testing.assert_array_equal(found.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(predicted, expected.labels_)
    np.testing.assert_array_equal(distances, expected.transform(rows))


def of_kind(rows, kind):
    """Return rows as a tensor of a kind of which nothing may be taken for granted."""
    tensor = torch.from_numpy(rows)
    wide = torch.full((len(rows) + 2, 2 * rows.shape[1] + 1), torch.nan)
    wide[1:-1, 1::2] = tensor
    kinds = {
        "float16": lambda: tensor.half(),
        "bfloat16": lambda: tensor.bfloat16(),
        "float64": lambda: tensor.double(),
        "columns first": lambda: tensor.T.contiguous().T,
        "with gaps": lambda: wide[1:-1, 1::2],
        "reversed": lambda: torch.from_numpy(rows[::-1].copy()).flip(0),
        "with a gradient": lambda: tensor.clone().requires_grad_(),
    }
    return kinds[kind]()


@pytest.mark.parametrize(
    "kind", ["float16", "bfloat16", "float64", "columns first", "with gaps", "reversed", "with a gradient"]
)
def test_tensors_of_any_kind(gpu, kind):
    rows = of_kind(blobs(std=4.0), kind)
    data = rows.cuda() if GPU else rows
    found = KMeans(20, device="cuda:0", random_state=0, n_init=1).fit(data)
    again = KMeans(20, init=found.cluster_centers_.cpu(), device="cpu", max_iter=1).fit(rows)
    assert (found.cluster_centers_.dtype, found.cluster_centers_.requires_grad) == (rows.dtype, False)
    assert torch.equal(found.labels_.cpu(), again.labels_)
    assert torch.equal(found.predict(data), found.labels_)
    torch.testing.assert_close(found.transform(data).cpu(), again.transform(rows), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "contains NaN"), (-np.inf, "contains infinity")])
def test_rows_that_are_not_finite(gpu, value, message):
    good = blobs(300)
    rows = good.copy()
    rows[299, 5] = value
    model = KMeans(5, device="cuda:0", random_state=0).fit(good)
    for call in (KMeans(5, device="cuda:0").fit, model.predict, model.transform, model.score):
        with pytest.raises(ValueError, match=message) as error:
            call(torch.from_numpy(rows))
        assert "\n" not in str(error.value)


def test_faiss_is_not_needed(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = blobs(500)
    model = KMeans(5, device="cuda:0", random_state=0, verbose=1).fit(rows)
    np.testing.assert_array_equal(model.predict(rows), model.labels_)


def test_precision(gpu):
    rows = blobs(500, std=4.0)
    fast, exact = (KMeans(20, device="cuda:0", precision=p, random_state=0).fit(rows) for p in ("tf32", "exact"))
    assert fast.inertia_ == pytest.approx(exact.inertia_, rel=1e-2)
    with pytest.raises(ValueError, match="precision must be one of exact, tf32, found 'half'"):
        KMeans(2, precision="half").fit(rows)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_tensors_stay_on_the_gpu():
    rows = torch.randn(50_000, 8, device="cuda")
    model = KMeans(10, random_state=0).fit(rows)
    assert model.cluster_centers_.is_cuda
    assert model.labels_.is_cuda
    assert torch.equal(model.predict(rows), model.labels_)
    assert model.transform(rows).is_cuda


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_labels_on_the_gpu(dtype):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 9, (100_000,), generator=generator).to(dtype) for _ in range(2))
    assert adjusted_rand_score(first.cuda(), second.cuda()) == adjusted_rand_score(first, second)
    assert contingency(first.cuda(), second.cuda()).count.is_cuda
