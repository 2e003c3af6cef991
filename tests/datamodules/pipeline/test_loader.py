"""The batch loader: epochs, resuming, sharding."""

import itertools
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.pipeline.augment import Augmentation
from datamodules.pipeline.batch import FlatBatch, ImageBatch, ImageStore
from datamodules.pipeline.loader import BatchLoader, Resident, Streamed, shares

SHAPE = (2, 5, 6)
AUGMENTATION = Augmentation(2, "alternating", 2)
IMAGES = torch.randint(0, 256, (60, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60)


def loader(count=23, batch_size=5, streamed=False, num_workers=0, **options):
    make = ImageBatch(SHAPE, (0.4, 0.5), (0.2, 0.3), AUGMENTATION)
    if streamed:
        source = Streamed(IMAGES, make, torch.device("cpu"), num_workers)
    else:
        store = ImageStore(60, SHAPE, 2)
        store.images.copy_(IMAGES)
        source = Resident(store, make)
    indices = torch.arange(0, 2 * count, 2)
    options = {"shuffle": True, "augmentation": AUGMENTATION, "image_size": SHAPE[1:], **options}
    return BatchLoader(source, LABELS, indices, batch_size=batch_size, **options)


def epochs(count, *args, **options):
    """Return the batches of the first epochs from one loader, iterated over without Lightning."""
    one = loader(*args, **options)
    return [list(one) for _ in range(count)]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def test_every_example_once_and_another_order_in_each_epoch():
    first, second = epochs(2)
    assert [len(labels) for _, labels in first] == [5, 5, 5, 5, 3]
    for epoch in (first, second):
        assert sorted(torch.cat([labels for _, labels in epoch]).tolist()) == list(range(0, 46, 2))
    assert not same(first, second)
    assert same(first, epochs(1)[0])
    assert not same(first, epochs(1, seed=1)[0])


def test_without_shuffle_the_order_is_that_of_the_indices():
    one = loader(shuffle=False, augmentation=None)
    for _ in range(2):
        assert torch.cat([labels for _, labels in one]).tolist() == list(range(0, 46, 2))
    assert same(list(one), list(one))


def test_drop_last():
    one = loader(drop_last=True)
    assert len(one) == 4
    assert [len(labels) for _, labels in one] == [5, 5, 5, 5]
    with pytest.raises(ValueError, match="drop_last=True leaves no batch: 23 examples are less than one batch of 24"):
        loader(batch_size=24, drop_last=True)


def test_early_break_starts_the_next_epoch():
    one = loader()
    for _ in one:
        break
    assert one.state_dict() == {"epoch": 0, "batch": 1}
    assert same(list(one), epochs(2)[1])


def test_state_is_advanced_before_the_yield():
    one = loader()
    iterator = iter(one)
    assert one.state_dict() == {"epoch": 0, "batch": 0}
    for batch in range(1, 5):
        next(iterator)
        assert one.state_dict() == {"epoch": 0, "batch": batch}
    next(iterator)  # the last: Lightning requests no more
    assert one.state_dict() == {"epoch": 1, "batch": 0}
    assert same(list(one), epochs(2)[1])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("call_set_epoch", [False, True])
def test_resume_at_every_position(streamed, call_set_epoch):
    expected = epochs(3)
    for position in range(11):
        old = loader(streamed=streamed)
        for _ in itertools.islice(itertools.chain.from_iterable(old for _ in range(3)), position):
            pass
        state = old.state_dict()
        new = loader(streamed=streamed)
        new.load_state_dict(state)
        assert new.state_dict() == state
        if call_set_epoch:  # as Lightning does
            new.sampler.set_epoch(state["epoch"])
        batches = [list(new)]
        assert same(batches[0], expected[state["epoch"]][state["batch"] :])
        if state["epoch"] < 2:
            assert same(list(new), expected[state["epoch"] + 1])


def test_lightnings_order_of_calls():
    # load_state_dict, iter, set_epoch, next: the iterator exists before the epoch is known.
    expected = epochs(3)
    one = loader()
    one.load_state_dict({"epoch": 2, "batch": 3})
    iterator = iter(one)
    one.sampler.set_epoch(2)
    assert same([next(iterator), next(iterator)], expected[2][3:])


def test_set_epoch_alone_starts_that_epoch():
    expected = epochs(3)
    one = loader()
    one.set_epoch(2)
    assert same(list(one), expected[2])
    one.set_epoch(1)
    assert same(list(one), expected[1])
    one.set_epoch(1)  # a second Trainer with the same loader
    assert same(list(one), expected[1])
    one.load_state_dict({"epoch": 1, "batch": 3})
    one.set_epoch(2)  # the position belonged to another epoch
    assert same(list(one), expected[2])


def test_bad_state():
    for state in ({"epoch": 0, "batch": 5}, {"epoch": 0, "batch": -1}, {"epoch": -1, "batch": 0}):
        with pytest.raises(ValueError, match="an epoch has 5 batches; resume with the data and batch size"):
            loader().load_state_dict(state)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streaming_equals_resident(num_workers):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert same(epochs(2, streamed=True, num_workers=num_workers)[1], epochs(2)[1])
    assert torch.equal(torch.get_rng_state(), state)  # so dropout stays the same


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [12, 16, 21, 23, 24])
@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_share_the_batches_of_one(count, world_size, shuffle):
    options = {"shuffle": shuffle, "augmentation": AUGMENTATION if shuffle else None}
    ranks = [
        epochs(2, count, batch_size=2, rank=rank, world_size=world_size, **options)[1] for rank in range(world_size)
    ]
    single = epochs(2, count, batch_size=2 * world_size, **options)[1]
    if 0 < count % (2 * world_size) < world_size:  # a last batch too small for all processes joins the previous one
        tail = [torch.cat(pair) for pair in zip(single[-2], single[-1], strict=True)]
        single = [*single[:-2], tuple(tail)]
    assert {len(batches) for batches in ranks} == {len(single)}
    for position, (images, labels) in enumerate(single):
        parts = [batches[position] for batches in ranks]
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        sizes = [len(part[1]) for part in parts]
        assert min(sizes) >= 1
        assert sizes == [len(part) for part in torch.tensor_split(labels, world_size)]
    everything = torch.cat([labels for batches in ranks for _, labels in batches])
    assert sorted(everything.tolist()) == list(range(0, 2 * count, 2))


def test_more_processes_than_examples():
    with pytest.raises(ValueError, match="3 examples cannot be shared by 4 processes"):
        shares(3, 8, rank=0, world_size=4)


@pytest.mark.parametrize("streamed", [False, True])
def test_loops_written_for_a_dataloader(streamed):
    one = loader(streamed=streamed, augmentation=None)
    assert (len(one.dataset), len(one.sampler), one.batch_size, one.drop_last, one.num_workers) == (23, 23, 5, False, 0)
    assert loader(streamed=True, num_workers=2).num_workers == 2
    examples = DataLoader(one.dataset, batch_size=5, sampler=one.sampler, num_workers=2 if streamed else 0)
    for epoch in range(2):
        one.sampler.set_epoch(epoch)
        order = list(one.sampler)
        assert sorted(order) == list(range(23))
        others = list(examples)
        assert same(others, list(one))  # torch's DataLoader makes the same batches of dataset and sampler
    assert len(list(one.dataset)) == 23
    assert same([one.dataset[-1]], [one.dataset[22]])
    copied = pickle.loads(pickle.dumps(one))
    copied.set_epoch(1)
    assert same(list(copied), others)


@pytest.mark.parametrize("world_size", [2, 4])
def test_sampler_and_dataset_of_a_process_are_those_of_torch(world_size):
    ranks = [loader(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(position for one in ranks for position in one.sampler) == list(range(23))
    for rank, one in enumerate(ranks):
        assert len(one.dataset) == 23
        assert len(one.sampler) == len(DistributedSampler(one.dataset, world_size, rank))


def test_flat_batches():
    rows = torch.arange(12.0).view(6, 2)
    source = Resident(rows, FlatBatch((5.0, 6.0), (2.0, 0.0)))
    ((batch, labels),) = BatchLoader(source, torch.arange(6), torch.tensor([4, 1]), batch_size=2)
    assert batch.tolist() == [[1.5, 3.0], [-1.5, -3.0]]
    assert labels.tolist() == [4, 1]
