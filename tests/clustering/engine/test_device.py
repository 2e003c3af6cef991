from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch

from clustering.engine.apply import move
from clustering.engine.data import ArraySource, OutputType
from clustering.engine.device import Place, find_place, open_rows
from clustering.engine.parallel import _resources, open_gpus
from clustering.engine.problem import Problem

ROWS = np.zeros((5, 2), dtype=np.float32)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2, raising=False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpu", "Faiss on the CPU"),
        ("auto", "torch on cuda:0"),
        ("cuda", "torch on cuda:0"),
        ("cuda:1", "torch on cuda:1"),
        ("cuda:1,1", "torch on cuda:1"),
        ("cuda:1,0", "Faiss on GPUs 1, 0"),
    ],
)
def test_places_by_name(two_gpus, name, text):
    assert str(find_place(name)) == text


def test_missing_gpus(two_gpus, monkeypatch):
    with pytest.raises(ValueError, match="'cuda:2', but torch finds 2 GPUs"):
        find_place("cuda:2")
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(ValueError, match="'cuda:0,1', but Faiss finds 0 GPUs"):
        find_place("cuda:0,1")
    assert find_place("cuda") == Place(torch.device("cuda", 0))  # Faiss is not needed there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_place("auto") == Place()
    with pytest.raises(ValueError, match="torch finds 0 GPUs"):
        find_place("cuda")


@pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "mps", None])
def test_other_names(name):
    with pytest.raises(ValueError, match="device must be"):
        find_place(name)


def test_resources_of_faiss_are_allocated_once(two_gpus, monkeypatch):
    made = []
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: made.append(1) or object(), raising=False)
    _resources.cache_clear()
    assert open_gpus([]) is None
    gpus = open_gpus((1, 0))
    assert (gpus.numbers, len(set(gpus.resources))) == ([1, 0], 2)
    again = [move(Problem(ArraySource(ROWS), OutputType("float32")), find_place("cuda:0,1")).gpus for _ in range(3)]
    assert all(one.resources == gpus.resources[::-1] and one.lock is gpus.lock for one in again)
    assert len(made) == 2
    _resources.cache_clear()


def test_one_gpu_takes_none_of_faiss(two_gpus):
    assert move(Problem(ArraySource(ROWS), OutputType("float32")), find_place("cuda:1")).gpus is None


class OnAGpu(torch.Tensor):
    """Rows on the CPU that say that they are on a GPU."""

    is_cuda = True
    device = torch.device("cuda", 1)


def test_threads_copy_rows_from_a_gpu_after_their_stream_has_computed_them(monkeypatch):
    calls = []
    stream = SimpleNamespace(synchronize=lambda: calls.append("waited"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: calls.append(str(device)) or stream)
    open_rows(Problem(ArraySource(torch.from_numpy(ROWS)), OutputType("float32")))
    assert calls == []
    open_rows(Problem(ArraySource(torch.from_numpy(ROWS).as_subclass(OnAGpu)), OutputType("float32")))
    assert calls == ["cuda:1", "waited"]
