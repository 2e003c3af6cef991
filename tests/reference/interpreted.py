"""Run a program of `tests/workers/` in which Triton's kernels are interpreted on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def errors(worker: str) -> dict[str, str]:
    """Return the errors of its checks by their names, empty for those that passed."""
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(root / "tests" / "workers" / worker)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, str] = json.loads(done.stdout)
    if any("only 0-dimensional arrays can be converted" in error for error in result.values()):
        pytest.skip("the interpreter of this Triton needs an older numpy")
    return result
