"""Norms, and so steps, are those of whole tensors where two processes hold a part each."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from workers import optim_ranks


def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(root / "tests" / "workers" / "optim_ranks.py")]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    for name, sharded in torch.load(tmp_path / "results.pt").items():
        whole = optim_ranks.train(name.removesuffix("-fused"), None)
        for result, expected in zip(sharded, whole, strict=True):
            assert torch.allclose(result, expected, rtol=1e-10, atol=1e-12), name
