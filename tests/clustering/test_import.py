import os
import subprocess
import sys
from pathlib import Path

import pytest

import clustering

PROGRAM = """
import sys
import clustering
assert not {"faiss", "torchmetrics", "rich"} & set(sys.modules)
clustering.KMeans(2, random_state=0)
clustering.rand_score([0, 1], [1, 0])
assert not {"faiss", "torchmetrics"} & set(sys.modules)
clustering.RandScore()
assert "faiss" not in sys.modules
clustering.KMeans(2, random_state=0).fit([[0.0], [1.0]])
assert "faiss" in sys.modules
"""

WITHOUT_FAISS = """
import sys
sys.modules["faiss"] = None
import activations, clustering, datamodules, evaluation, evaluation.explanation, lightning_modules, optim, train
clustering.rand_score([0, 1], [1, 0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAM, WITHOUT_FAISS], ids=["imported_when_used", "only_k_means_needs_faiss"])
def test_faiss_and_torchmetrics(program):
    scripts = str(Path(__file__).parents[2] / "scripts")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, scripts])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_metrics_are_names_of_the_package_like_the_others():
    names: dict = {}
    exec("from clustering import *", names)
    assert names["RandScore"] is clustering.RandScore
    assert {"KMeans", "RandScore", "AdjustedRandScore", "rand_score"} <= set(dir(clustering)) & set(names)
    with pytest.raises(AttributeError, match="has no attribute 'Score'"):
        clustering.Score  # noqa: B018
