import subprocess
import sys

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


def test_faiss_and_torchmetrics_are_imported_when_they_are_used():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_metrics_are_names_of_the_package_like_the_others():
    names: dict = {}
    exec("from clustering import *", names)
    assert names["RandScore"] is clustering.RandScore
    assert {"KMeans", "RandScore", "AdjustedRandScore", "rand_score"} <= set(dir(clustering)) & set(names)
    with pytest.raises(AttributeError, match="has no attribute 'Score'"):
        clustering.Score  # noqa: B018
