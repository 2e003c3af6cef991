"""The split: disjoint, stratified, with independent sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.pipeline.split import stratified_split

LABELS = np.random.default_rng(0).choice(4, size=1000, p=[0.5, 0.3, 0.15, 0.05])


def split(labels=LABELS, **options):
    options = {"val": 0.1, "train": None} | options
    seed = options.pop("seed", 0)
    return stratified_split(labels, sizes=options, rest="train", seed=seed)


def test_parts_are_disjoint_and_complete():
    parts = split(test=0.2, val=150)
    together = np.concatenate(list(parts.values()))
    assert sorted(together) == list(range(1000))
    assert [len(parts[name]) for name in ("test", "val", "train")] == [200, 150, 650]
    for indices in parts.values():
        assert (np.diff(indices) > 0).all()


def test_every_part_is_stratified():
    parts = split(test=0.2, val=150, train=300)
    for indices in parts.values():
        expected = np.bincount(LABELS) / 1000 * len(indices)
        assert np.abs(np.bincount(LABELS[indices]) - expected).max() <= 1


def test_sizes_are_independent():
    for train in (None, 100, 0.5):
        np.testing.assert_array_equal(split(train=train)["val"], split()["val"])


def test_only_split_seed_changes_the_split():
    np.random.seed(1)
    first = split(seed=3)
    np.random.seed(2)
    np.testing.assert_array_equal(first["val"], split(seed=3)["val"])
    assert not np.array_equal(first["val"], split(seed=4)["val"])


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(3, 30), min_size=1, max_size=6),
    fractions=st.tuples(st.floats(0.05, 0.45), st.floats(0.05, 0.45)),
    seed=st.integers(0, 5),
)
def test_any_sizes(counts, fractions, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    test, val = (max(len(counts), int(f * len(labels))) for f in fractions)
    if len(labels) - test - val < len(counts):
        return
    parts = stratified_split(labels, sizes={"test": test, "val": val}, rest="train", seed=seed)
    assert len(parts["test"]) == test
    assert len(parts["val"]) == val
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    for indices in parts.values():
        assert set(labels[indices]) == set(labels)


def test_later_parts_get_examples_of_a_small_class():
    # The largest remainder alone would put all three into the first part.
    labels = np.array([0] * 30 + [1] * 3)
    parts = stratified_split(labels, sizes={"test": 28, "val": 2}, rest="train")
    assert [labels[part].sum() for part in parts.values()] == [1, 1, 1]


def test_empty_parts():
    for nothing in (None, 0, 0.0):
        assert len(split(val=nothing)["val"]) == 0
        assert len(split(val=nothing)["train"]) == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 1001}, "val_size needs 1001 examples, found 1000"),
        ({"val": -1}, "val_size needs -1"),
        ({"val": 0.5, "train": 0.6}, "the parts need val 500 \\+ train 600 of 1000"),
        ({"val": 1.0}, "no example is left for train_size"),
        ({"val": 3}, "val_size=3 is less than the number of classes 4"),
        ({"val": 0.0001}, "val_size=0.0001 of 1000 examples is less than one"),
    ],
)
def test_bad_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        split(**options)


def test_class_with_too_few_examples():
    labels = np.array([0] * 50 + [1])
    with pytest.raises(ValueError, match="class 'owl' has 1 example\\(s\\), too few to be in each of val, train"):
        stratified_split(labels, sizes={"val": 10}, rest="train", class_names=["cat", "owl"])
    assert len(stratified_split(labels, sizes={"val": 0}, rest="train")["train"]) == 51
