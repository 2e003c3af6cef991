import faiss
import pytest
import torch

from clustering.engine.device import Place, find_place
from clustering.engine.parallel import open_gpus


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


def test_resources_of_faiss(two_gpus):
    assert open_gpus([]) is None
    gpus = open_gpus((1, 0))
    assert (gpus.numbers, len(gpus.resources)) == ([1, 0], 2)
