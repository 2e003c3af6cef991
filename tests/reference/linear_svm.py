"""`scripts/linear_svm.py --data mnist` as one would write it with scikit-learn alone; prints the scores.

DATA_DIR=... python tests/reference/linear_svm.py
"""

import json
import os
import sys
import time

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

GRID = [0.025, 0.05, 0.1, 0.2, 0.4]


def plain_svm(x, y, x_test, y_test, grid=GRID, folds=5):
    """Return the scores of both machines and of the search, and the seconds that the fits took."""
    start = time.perf_counter()
    l1 = LinearSVC(loss="squared_hinge", penalty="l1", dual=False, random_state=0)
    search = GridSearchCV(l1, {"C": list(grid)}, cv=folds, scoring="accuracy", return_train_score=True).fit(x, y)
    c = search.best_params_["C"]
    l2 = LinearSVC(loss="squared_hinge", penalty="l2", dual=False, random_state=0, C=c).fit(x, y)
    names = ("mean_train_score", "std_train_score", "mean_test_score", "std_test_score")
    machines = {"L1": search.best_estimator_, "L2": l2}
    return {
        "seconds": time.perf_counter() - start,
        "best_C": c,
        "scores": {str(c): {name: float(search.cv_results_[name][i]) for name in names} for i, c in enumerate(grid)},
        "models": {
            name: {
                "train_accuracy": model.score(x, y),
                "test_accuracy": model.score(x_test, y_test),
                "fraction_zero": float((model.coef_ == 0).mean()),
            }
            for name, model in machines.items()
        },
    }


def mnist_pair(train, digits=(5, 8)):
    from torchvision.datasets import MNIST

    mnist = MNIST(os.environ["DATA_DIR"], train=train)
    labels = mnist.targets.numpy()
    chosen = np.isin(labels, digits)
    return mnist.data.numpy()[chosen].reshape(-1, 784) / 255.0, labels[chosen]


if __name__ == "__main__":
    json.dump(plain_svm(*mnist_pair(True), *mnist_pair(False)), sys.stdout)
