from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from clustering import adjusted_rand_score, pair_confusion_matrix, rand_score
from clustering.rand import contingency as module
from clustering.rand.contingency import contingency, merge
from reference.counting import Waits

PAIRS = [
    (rand_score, metrics.rand_score),
    (adjusted_rand_score, metrics.adjusted_rand_score),
    (pair_confusion_matrix, metrics.cluster.pair_confusion_matrix),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 10**12)), min_size=1, max_size=30))
def test_scikit_learns_values(ours, theirs, points):
    first, second = (np.array(labels) for labels in zip(*points, strict=True))
    np.testing.assert_allclose(ours(first, second), theirs(first, second), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0, 0, 0], [1, 1, 1]),
        ([0, 1, 2], [2, 1, 0]),
        ([0, 0, 1], [0, 1, 2]),
        ([5], [7]),
        (["a", "b", "a"], ["x", "x", "y"]),
        ([True, False, True], [1.0, 2.0, 2.0]),
        (np.array([0, 255], dtype=np.uint8), np.array([2**63, 0], dtype=np.uint64)),
        (np.array([-(2**62), 2**62, 0]), np.array([0, 60_000, 1], dtype=np.uint16)),
    ],
)
def test_edge_cases_and_types(ours, theirs, first, second):
    np.testing.assert_allclose(ours(first, second), theirs(first, second))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_floats_are_labels_too(dtype):
    labels = torch.tensor([1, 2, 3, 3, 2, 256], dtype=dtype)
    assert adjusted_rand_score(labels, labels.double()) == 1
    exact = torch.tensor([2.0**24, 2.0**24 + 1, 2.0**24 + 2, 3.0], dtype=torch.float64)
    assert rand_score(exact, torch.arange(4)) == 1


@pytest.mark.parametrize("kinds", [(torch.int64, torch.uint8), (torch.float32, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("classes", [200, 3_000])  # pairs in a table, and sorted pairs
def test_labels_on_a_gpu_stay_there(kinds, classes, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, n, (100_000,), generator=generator) for n in (classes, 200))
    expected = rand_score(first, second), adjusted_rand_score(first, second), len(contingency(first, second).count)
    monkeypatch.setattr(module, "_GPU_CHUNK", 25_000)
    if classes > 2**8:
        kinds = (kinds[0], torch.float32)
    monkeypatch.setattr(module, "_TABLE", 1 << 17)
    first, second = first.to(kinds[0]), second.to(kinds[1])
    with Waits(as_cuda=True) as waits:
        assert rand_score(first, second) == expected[0]
    copied = waits.counts.total() - waits.counts["nonzero"]
    with waits:
        assert adjusted_rand_score(first, second) == expected[1]
        assert len(contingency(first, second).count) == expected[2]
    assert waits.largest <= 1  # single numbers: the ends of the labels, chunk by chunk, and the sums of squares
    assert copied <= 4 * 4 + 8


@pytest.mark.parametrize(
    "layout",
    [
        lambda labels: labels.astype(">i4"),
        lambda labels: labels[::-1].copy()[::-1],
        lambda labels: np.repeat(labels, 2)[::2],
        lambda labels: np.frombuffer(labels.tobytes(), dtype=labels.dtype),
        lambda labels: np.frombuffer(b"x" + labels.tobytes(), dtype=labels.dtype, offset=1),
        lambda labels: labels.astype(">f8")[::-1].copy()[::-1],
        lambda labels: np.asfortranarray(np.stack([labels, labels], 1))[:, 1],
        lambda labels: labels.astype(object),
        lambda labels: labels.astype(np.dtypes.StringDType()),
        lambda labels: labels + 1j * labels,
        lambda labels: labels.astype("M8[D]"),
    ],
)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_any_memory_layout(ours, theirs, layout):
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 5, 400), rng.integers(0, 4, 400)
    np.testing.assert_allclose(ours(truth, layout(labels)), theirs(truth, labels), rtol=1e-12)


def test_no_points_are_the_same_clustering():
    assert rand_score([], []) == adjusted_rand_score([], []) == 1.0


def test_many_values_are_sorted_instead_of_tabled():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3_000, 50_000), rng.integers(0, 2_900, 50_000)
    assert adjusted_rand_score(first, second) == pytest.approx(metrics.adjusted_rand_score(first, second), abs=1e-15)
    assert adjusted_rand_score(first * 10**9, second) == adjusted_rand_score(first, second)


def test_ten_million_points_do_not_overflow():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 10, 10_000_000, dtype=np.int8)
    second = np.where(rng.random(len(first), dtype=np.float32) < 0.7, first, rng.integers(0, 10, len(first), np.int8))
    table = np.bincount(first.astype(np.intp) * 10 + second, minlength=100).reshape(10, 10).tolist()
    n = len(first)
    both = sum(count**2 for row in table for count in row)
    rows, columns = (sum(sum(line) ** 2 for line in lines) for lines in (table, zip(*table, strict=True)))
    expected = (rows * columns) / n**2
    truth = (both - expected) / ((rows + columns) / 2 - expected)  # in pairs with themselves: equal for large n
    assert adjusted_rand_score(first, second) == pytest.approx(truth, abs=1e-6)
    assert adjusted_rand_score(first, second) == pytest.approx(0.49, abs=0.005)
    from torchmetrics.functional.clustering import adjusted_rand_score as of_torchmetrics

    theirs = float(of_torchmetrics(torch.from_numpy(first).long(), torch.from_numpy(second).long()))
    assert not abs(theirs - truth) < 0.01, "torchmetrics no longer overflows: update the documentation"


def test_scores_of_tensors_are_tensors():
    first, second = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1], dtype=torch.int32)
    assert pair_confusion_matrix(first, second).tolist() == [[8, 2], [0, 2]]
    score = adjusted_rand_score(first, second)
    assert score.dtype == torch.float64
    assert score.item() == pytest.approx(4 / 7)


def test_pairs_beyond_int64_are_refused_and_scored():
    import clustering.rand.scores as module
    from clustering.rand.contingency import Counts

    huge = Counts(*(torch.tensor([2**40, 2**40]) for _ in range(3)))
    assert module.count_pairs(huge).tp == 2 * 2**80 - 2**41
    assert module.adjusted_rand_of(module.count_pairs(huge)) == 1.0


def test_cells_add_up():
    cells = contingency(torch.tensor([1, 1, 2]), torch.tensor([3, 3, 4]))
    twice = merge(type(cells)(*(torch.cat([part, part]) for part in cells)))
    assert sorted(zip(*(part.tolist() for part in twice), strict=True)) == [(1, 3, 4), (2, 4, 2)]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0, 1], [0], "found 2 and 1 labels"),
        ([[0, 1]], [0], "one-dimensional, found shape \\[1, 2\\]"),
        ([0.0, float("nan")], [0, 1], "must be finite, found NaN"),
        ([0, 1], torch.tensor([0, complex("nan")]).numpy(), "must be finite, found NaN"),
        (["a", float("nan")], [0, 1], "first labels must all be there, found nan: leave out"),
        ([0, 1], np.array(["a", np.nan], dtype=object), "second labels must all be there, found nan"),
        (["a", float("inf")], [0, 1], "first labels must all be there, found inf"),
        (["a", None], [0, 1], "must all be there, found None"),
        ([1, None], [0, 1], "must all be there, found None"),
        ([1, pd.NA], [0, 1], "must all be there, found <NA>"),
        (pd.array([1, None], dtype="Int64"), [0, 1], "must (all be there|be finite)"),  # pandas 2 and 3
        (pd.array(["a", None], dtype="string"), [0, 1], "must all be there"),
        (pd.Categorical(["a", None]), [0, 1], "must all be there, found nan"),
        (pd.Series([pd.NaT, pd.Timestamp(0)]), [0, 1], "must all be there, found NaT"),
        ([Decimal("nan"), 1], [0, 1], "must all be there, found Decimal"),
        (np.ma.masked_array([0, 1], mask=[0, 1]), [0, 1], "must all be there, found a masked one"),
        ([{}, {}], [0, 1], "must be hashable, found dict"),
        ([(1,), (1, 2)], [0, 1], "one-dimensional, found sequences"),
    ],
)
def test_errors(first, second, message):
    with pytest.raises(ValueError, match=message) as found:
        rand_score(first, second)
    assert "\n" not in str(found.value)


def test_labels_of_several_kinds_and_complex_tensors():
    assert rand_score([0, "0", 0, 1], [5, 6, 5, 7]) == 1
    assert rand_score(torch.tensor([1j, 2j, 1j]), torch.tensor([0, 1, 0])) == 1


def test_no_operation_on_a_step_is_cut_for_several_threads():
    from clustering.rand import contingency as module

    assert module._CHUNK <= 32768  # below at::internal::GRAIN_SIZE torch works in the calling thread
