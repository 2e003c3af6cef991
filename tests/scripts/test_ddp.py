"""Two processes of scripts/train.py give the results of one with the same global batch."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train

RUN = [
    *("--model.backbone", "TwoLayerNet", "--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs", "2"),
    *("--trainer.accelerator", "cpu", "--save_every", "5"),
]


def run(root: Path, *more: str) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    command = [sys.executable, train.__file__, *RUN, "--trainer.default_root_dir", str(root), *more]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (last,) = root.glob("*/checkpoints/last.ckpt")
    rows = list(csv.DictReader((last.parent.parent / "metrics.csv").open()))
    assert (last.parent.parent / "results.json").exists()
    return torch.load(last, weights_only=True)["state_dict"], rows


def column(rows, name):
    return [float(row[name]) for row in rows if row.get(name)]


@pytest.mark.slow
def test_two_processes_end_as_one_with_the_same_global_batch(tmp_path):
    one, one_rows = run(tmp_path / "one", "--data.batch_size", "128")
    two, two_rows = run(
        tmp_path / "two", "--data.batch_size", "64", "--trainer.devices", "2", "--trainer.strategy", "ddp"
    )
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
    for name in ("train/loss", "train/accuracy", "val/accuracy", "val/nll", "val/ece", "test/accuracy", "test/nll"):
        assert column(two_rows, name) == pytest.approx(column(one_rows, name), rel=1e-3, abs=1e-6), name
        assert len(column(two_rows, name)) == 2
