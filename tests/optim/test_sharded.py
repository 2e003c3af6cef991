"""Norms, and so steps, are those of whole tensors where two processes hold a part each, or they are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from optim import COCOB
from workers import optim_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the results of two processes."""
    folder, root = tmp_path_factory.mktemp("ranks"), Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(root / "tests" / "workers" / "optim_ranks.py")]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    return folder


def test_two_processes_end_where_one_does(folder: Path) -> None:
    for name, sharded in torch.load(folder / "results.pt").items():
        whole = optim_ranks.train(name.removesuffix("-fused"), None)
        for result, expected in zip(sharded, whole, strict=True):
            assert torch.allclose(result, expected, rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("use_orig_params", [False, True])
def test_under_fsdp1_what_needs_whole_tensors_is_refused(folder: Path, use_orig_params: bool) -> None:
    results = torch.load(folder / "fsdp1.pt")
    for name in ("LAMB", "SAM"):
        message = results[f"{name} {use_orig_params}"]
        assert message.startswith(name)
        assert "fully_shard" in message
        assert "ModelParallelStrategy" in message
        assert "\n" not in message
    weight, bias, *after = results[f"COCOB {use_orig_params}"]
    layer = nn.Linear(3, 5, dtype=torch.float64)
    layer.load_state_dict({"weight": weight, "bias": bias})
    optimizer = COCOB(layer.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.eye(3, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    expected = nn.utils.parameters_to_vector(layer.parameters())
    assert torch.allclose(torch.cat([part.flatten() for part in after])[: len(expected)], expected, rtol=1e-10)
