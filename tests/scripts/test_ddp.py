"""Two processes of scripts/train.py give the results of one with the same global batch."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train

RUN = [
    *("--model.backbone", "TwoLayerNet", "--optimizer", "SGD", "--optimizer.lr", "0.1", "--trainer.max_epochs", "2"),
    *("--trainer.accelerator", "cpu", "--save_every", "5", "--data.watch_test", "true"),
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


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.9, 1.7])
def test_two_processes_told_to_stop_end_together(tmp_path, seconds):
    """The signal handler communicates with nobody: the ranks agree at the next batch."""
    words = ["--data.batch_size", "16", "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs"]
    root = ["--trainer.default_root_dir", str(tmp_path), "--save_every", "1", "--trainer.log_every_n_steps", "5"]
    command = [sys.executable, train.__file__, *RUN, *words, "4000", *root]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 120
            while not any(tmp_path.glob("*/metrics.csv")):
                assert job.poll() is None, (tmp_path / "log").read_text()[-1000:]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(seconds)
            job.send_signal(signal.SIGTERM)
            assert job.wait(60) == 143, (tmp_path / "log").read_text()[-1000:]
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()
    (last,) = tmp_path.glob("*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] > 0
    assert "Traceback" not in (tmp_path / "log").read_text()
