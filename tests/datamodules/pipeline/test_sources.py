"""Workers that live from epoch to epoch, whose result is a function of seed, epoch and position."""

import itertools
import os
import pickle
import random

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.pipeline.batch import FlatBatch
from datamodules.pipeline.loader import BatchLoader
from datamodules.pipeline.sources import Streamed


class Noisy(Dataset):
    """Rows of numbers that are drawn from all global generators, the example and the process."""

    def __getitem__(self, index):
        drawn = [torch.rand(1).item(), np.random.rand(), random.random()]
        return torch.tensor([*drawn, index, os.getpid()], dtype=torch.float64)


def loader(num_workers=2, seed=0, batch_size=4, **options):
    make = FlatBatch([0.0] * 5, [1.0] * 5)
    source = Streamed(Noisy(), make, torch.device("cpu"), num_workers)
    indices = torch.arange(30, 43)
    return BatchLoader(source, torch.arange(100), indices, batch_size=batch_size, shuffle=True, seed=seed, **options)


def rows(batches):
    return torch.cat([images for images, _ in batches])


def test_workers_live_on_and_draw_by_position():
    one = loader()
    epochs = [rows(one) for _ in range(3)]
    processes = {pid for epoch in epochs for pid in epoch[:, 4].tolist()}
    assert len(processes) == 2
    assert os.getpid() not in processes
    for epoch, expected in enumerate(epochs):
        assert (expected[:, :3].unique().numel(), expected[:, 3].unique().numel()) == (39, 13)
        other = loader(num_workers=1, batch_size=3)
        other.set_epoch(epoch)
        assert torch.equal(rows(other)[:, :4], expected[:, :4])
    assert not torch.equal(epochs[0][:, :3], epochs[1][:, :3])
    assert not torch.equal(rows(loader(seed=1))[:, :3], epochs[0][:, :3])
    ranks = [loader(num_workers=1, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    shared = torch.cat([images for pair in zip(*ranks, strict=True) for images, _ in pair])
    assert torch.equal(shared[:, :4], epochs[0][:, :4])


def test_interrupted_and_interleaved_iterations():
    one = loader()
    epochs = [rows(loader_at(epoch))[:, :4] for epoch in range(3)]
    for _ in itertools.islice(one, 1):  # left while workers read ahead
        pass
    first = iter(one)
    begun = [next(first)]
    second = iter(one)  # before the other has ended
    both = [next(second)]
    begun += list(first)
    both += list(second)
    assert torch.equal(rows(begun)[:, :4], epochs[1])
    assert torch.equal(rows(both)[:, :4], epochs[2])
    copied = pickle.loads(pickle.dumps(one))
    copied.load_state_dict({"epoch": 1, "batch": 2})
    assert torch.equal(rows(copied)[:, :4], epochs[1][8:])


def loader_at(epoch):
    one = loader(num_workers=1)
    one.set_epoch(epoch)
    return one
