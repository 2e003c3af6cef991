import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from sklearn import metrics
from torchmetrics import MetricCollection

from clustering import AdjustedRandScore, RandScore

CASES = [(RandScore, metrics.rand_score), (AdjustedRandScore, metrics.adjusted_rand_score)]


def labels(n=5_000):
    rng = np.random.default_rng(0)
    first = rng.integers(0, 12, n)
    return first, np.where(rng.random(n) < 0.6, first + 100, rng.integers(0, 9, n))


@pytest.mark.parametrize(("metric", "theirs"), CASES)
def test_batches_add_up_to_the_whole(metric, theirs):
    truth, clusters = labels()
    score = metric()
    for part in np.array_split(np.arange(len(truth)), 150):
        score.update(torch.from_numpy(clusters[part]), torch.from_numpy(truth[part]))
    assert score.compute().item() == pytest.approx(theirs(truth, clusters), abs=1e-12)
    assert sum(len(cells) for cells in score.cells) < 64 * 13 * 21
    score.reset()
    with pytest.raises(ValueError, match="has seen no labels"):
        score.compute()


@pytest.mark.parametrize("metric", [RandScore, AdjustedRandScore])
def test_an_empty_batch_adds_nothing(metric):
    score = metric()
    assert score(torch.tensor([]), torch.tensor([])).isnan()
    score.update(torch.tensor([0, 1, 1]), torch.tensor([2, 5, 5]))
    score.update(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert score.compute() == 1


def test_half_precision_modules_and_checkpoints_keep_the_counts():
    score = AdjustedRandScore()
    score.persistent(True)
    score.update(torch.zeros(5_001, dtype=torch.int64), torch.arange(5_001) % 2)
    expected = score.compute()
    copy = AdjustedRandScore()
    copy.load_state_dict(score.half().state_dict(), strict=False)
    assert score.compute() == expected


def test_floats_are_refused():
    with pytest.raises(ValueError, match=r"preds must be integer labels, found torch\.float32"):
        RandScore().update(torch.zeros(3), torch.zeros(3, dtype=torch.int64))


def rank(number, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    truth, clusters = labels()
    for metric, theirs in CASES:
        score, one_sided = metric(), metric()
        own = np.arange(number, len(truth), 2)[: 2_000 + 300 * number]
        score.update(torch.from_numpy(clusters[own]), torch.from_numpy(truth[own]))
        every = np.concatenate([np.arange(i, len(truth), 2)[: 2_000 + 300 * i] for i in range(2)])
        assert abs(score.compute().item() - theirs(truth[every], clusters[every])) < 1e-12
        if number == 0:  # the other process sees no batch at all
            one_sided.update(torch.from_numpy(clusters), torch.from_numpy(truth))
        assert abs(one_sided.compute().item() - theirs(truth, clusters)) < 1e-12
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_uneven_parts(tmp_path):
    mp.start_processes(rank, args=(str(tmp_path),), nprocs=2, start_method="spawn")


def test_collections_groups_and_plots():
    generator = torch.Generator().manual_seed(0)
    clusterings = torch.randint(5, (2, 700), generator=generator)
    grouped, alone = MetricCollection([RandScore(), AdjustedRandScore()]), [RandScore(), AdjustedRandScore()]
    for preds, target in zip(*(row.split(7) for row in clusterings), strict=True):
        for each in (grouped, *alone):
            each.update(preds, target)
    assert list(grouped.compute_groups.values()) == [["RandScore", "AdjustedRandScore"]]  # one table
    for metric in alone:
        assert torch.equal(grouped.compute()[type(metric).__name__], metric.compute())
        figure, axes = metric.plot()
        assert axes.get_ylim()[0] <= metric.plot_lower_bound
        plt.close(figure)
    for figure, _ in grouped.plot():
        plt.close(figure)
