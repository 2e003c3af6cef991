import faiss
import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from clustering import KMeans

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a GPU")]


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_finds_what_the_cpu_finds(device):
    rows = make_blobs(100_000, 16, centers=40, random_state=0)[0].astype(np.float32)
    cpu = KMeans(40, random_state=0, device="cpu").fit(rows)
    gpu = KMeans(40, random_state=0, device=device).fit(rows)
    assert gpu.inertia_ == pytest.approx(cpu.inertia_, rel=1e-6)
    assert adjusted_rand_score(cpu.labels_, gpu.labels_) > 0.999


def test_tensors_stay_on_the_gpu():
    rows = torch.randn(50_000, 8, device="cuda")
    model = KMeans(10, random_state=0).fit(rows)
    assert model.cluster_centers_.is_cuda
    assert model.labels_.is_cuda
    assert torch.equal(model.predict(rows), model.labels_)
