"""The job scripts of docs/cluster.md: bash runs them with stand-ins for Slurm and Python; the words are parsed."""

import os
import re
import subprocess
from functools import wraps
from pathlib import Path

import pytest

import compare
import train

ROOT = Path(__file__).parent.parent
ARRAY, REQUEUED = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL | re.MULTILINE)
STUBS = {
    "srun": 'exec "$@"',
    "scontrol": 'echo "$@" >> scontrol.txt',
    "python": 'printf "%s\\n" "$@" > python.txt; exit ${CODE:-0}',
}


@pytest.fixture
def job(tmp_path):
    """Return a function that runs a job script, and returns the words of the Python script that it starts."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3", "DATA_DIR": "data"}

    def run(script, **more):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-u", "-c", script], cwd=tmp_path, env=os.environ | slurm | more | {"PATH": path}, check=True
        )
        return (tmp_path / "python.txt").read_text().splitlines()

    return run


def is_parsed(words):
    with pytest.raises(SystemExit) as ended:
        train.main([*words, "--print_config"])
    return ended.value.code == 0


def test_a_run_that_is_stopped_is_requeued_and_continues(job, tmp_path, monkeypatch):
    name, *words = job(REQUEUED, CODE="143")
    assert name == "scripts/train.py"
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"
    assert words == [
        "fit", "--config", "scripts/recipes/cifar10_resnet20.yaml", "--data.data_dir", "data",
        "--trainer.default_root_dir", "runs/job-17",
    ]  # fmt: skip
    monkeypatch.chdir(ROOT)
    assert is_parsed(words)
    checkpoint = tmp_path / "runs" / "job-17" / "2026" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    _, *words = job(REQUEUED)
    assert words == ["fit", "--ckpt_path", "last", "--trainer.default_root_dir", "runs/job-17"]
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"  # it has ended, and is not requeued again


def test_a_task_of_an_array_compares_all_values_with_one_seed(job, monkeypatch, tmp_path):
    name, *words = job(ARRAY)
    assert name == "scripts/compare.py"
    seen = []

    @wraps(compare.compare)
    def understood(axes, words, *_, **options):
        seen.append((compare.make_grid(axes, words), options))
        return {}

    monkeypatch.setattr(compare, "compare", understood)
    monkeypatch.chdir(tmp_path)
    compare.main(words)
    ((grid, options),) = seen
    assert len(grid) == 3
    assert (options["seeds"], options["seed"]) == (1, 3)
    assert str(options["output"]) == "runs/optimizers-3"
