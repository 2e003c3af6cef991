import numpy as np
import pytest
import torch

from clustering import KMeans
from clustering.engine.checks import check_batches, check_data, check_options, check_weights
from clustering.engine.data import OutputType


def options(**parameters):
    model = KMeans(**parameters)
    model.n_features_in_ = 3
    return check_options(model)


def test_options():
    checked = options(n_clusters=np.int64(4), max_iter=7, tol=1, random_state=0, device="cpu", verbose=1)
    assert checked._asdict() == {
        "clusters": 4, "init": "k-means++", "starts": 5, "max_iter": 7, "tol": 1.0, "metric": "euclidean",
        "algorithm": "lloyd", "device": None, "gpus": (), "precision": "exact",
        "seed": np.random.RandomState(0).randint(2**31 - 1), "verbose": True,
    }  # fmt: skip


@pytest.mark.parametrize("init", [np.ones((2, 3), dtype=np.float16), [[1, 1, 1], [1, 1, 1]], torch.ones(2, 3)])
def test_initial_centres(init):
    np.testing.assert_array_equal(options(n_clusters=2, init=init, device="cpu").init, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": -1}, "n_clusters must be an integer of at least 1, found -1"),
        ({"n_init": True}, "n_init must be an integer of at least 1, found True"),
        ({"max_iter": 1.0}, r"max_iter must be an integer of at least 1, found 1\.0"),
        ({"tol": np.inf}, "tol must be a finite number of at least 0, found inf"),
        ({"tol": "small"}, "tol must be"),
        ({"metric": "l1"}, "metric must be one of euclidean, cosine, found 'l1'"),
        ({"algorithm": None}, "algorithm must be one of lloyd, minibatch, found None"),
        ({"init": "best"}, r"init must be one of k-means\+\+, random or an array, found 'best'"),
        ({"init": np.zeros(3)}, r"found shape \[3\]"),
        ({"init": np.full((8, 3), np.inf)}, "init must be finite"),
        ({"device": "mps"}, "device must be .*, found 'mps'"),
    ],
)
def test_bad_options(parameters, message):
    with pytest.raises(ValueError, match=message):
        options(**parameters)


@pytest.mark.parametrize("data", [np.ones((4, 2), dtype=np.float16), torch.ones(4, 2).bfloat16(), np.ones((4, 2), int)])
def test_data_are_not_copied(data):
    model = KMeans()
    problem = check_data(model, data, reset=True)
    one, other = (torch.as_tensor(rows).data_ptr() for rows in (problem.source.data, data))
    assert one == other
    assert problem.output == OutputType.of(data)
    assert model.n_features_in_ == problem.source.dim == 2


@pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(2, 2, dtype=torch.complex64), torch.ones(0, 2)])
def test_bad_tensors(bad):
    with pytest.raises(ValueError, match=r"X must be real numbers \[N, D\], found"):
        check_data(KMeans(), bad, reset=True)


def test_another_number_of_columns():
    model = KMeans()
    check_data(model, np.ones((2, 3)), reset=True)
    for data in (np.ones((2, 4)), torch.ones(2, 4)):
        with pytest.raises(ValueError, match="X has 4 features, but KMeans is expecting 3"):
            check_data(model, data, reset=False)


def test_batches():
    problem = check_batches(KMeans(), [(torch.ones(2, 3).half(), "label"), torch.ones(1, 3).half()])
    assert (problem.source.dim, problem.output) == (3, OutputType("float16", "cpu"))
    with pytest.raises(ValueError, match="found no batch"):
        check_batches(KMeans(), [])
    with pytest.raises(ValueError, match="a generator can be read once only"):
        check_batches(KMeans(), (batch for batch in [np.ones((2, 3))]))


def test_weights():
    assert check_weights(None, 3) is None
    for weights in (2, [2, 2, 2], torch.full((3,), 2)):
        np.testing.assert_array_equal(check_weights(weights, 3), [2.0, 2.0, 2.0])
    for bad, message in (
        ([1, 2], "one for each of the 3 rows"),
        ([1, -1, 1], "at least 0"),
        ([1, np.nan, 1], "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            check_weights(bad, 3)
