"""scripts/linear_svm.py against a plain version."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import linear_svm
from _common.digit_images import pair, read_digits
from linear_svm import best, fit_all
from reference.linear_svm import plain_svm


def as_rows(part):
    digits = pair(read_digits("digits", part), 5, 8)
    return digits.images.reshape(len(digits.images), -1) / 255.0, digits.labels


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svm")
    return linear_svm.main(["--output", str(folder)]) | {"folder": folder}


def test_scores_agree_with_the_plain_version(results):
    plain = plain_svm(*as_rows("train"), *as_rows("test"))
    assert results["best_C"] == plain["best_C"]
    for c, row in plain["scores"].items():
        assert results["scores"][c] == pytest.approx(row, abs=1e-12)
    for name, row in plain["models"].items():
        assert {key: results["models"][name][key] for key in row} == pytest.approx(row, abs=1e-12)


def test_the_order_of_rows_and_processes_do_not_matter():
    x, y = as_rows("train")
    scores, machines = fit_all(x, y, (0.1, 0.4), 3, 0, jobs=2)
    plain = plain_svm(x, y, x, y, grid=(0.1, 0.4), folds=3)
    for c, row in plain["scores"].items():
        assert scores[float(c)] == pytest.approx(row, abs=1e-12)
    assert machines["L2"].score(x, y) == plain["models"]["L2"]["train_accuracy"]
    assert (machines["L1"].coef_ == 0).mean() == plain["models"]["L1"]["fraction_zero"]


def test_results_and_picture(results):
    folder = results.pop("folder")
    assert json.loads((folder / "results.json").read_text()) == results
    assert (results["train_images"], results["test_images"]) == (285, 71)
    l1, l2 = results["models"]["L1"], results["models"]["L2"]
    assert l1["fraction_zero"] == l1["zeros"] / 64 > l2["fraction_zero"]
    assert l2["zeros"] == results["pixels_never_lit"]
    assert l2["fraction_zero_of_lit_pixels"] == 0
    assert min(l1["test_accuracy"], l2["test_accuracy"]) > 0.93
    picture = np.asarray(Image.open(folder / "linear_svm.png").convert("RGB")).astype(int)
    assert picture.shape == (370, 1200, 3)
    # A map has one grey field per zero weight; those of L2 are the pixels that are never lit.
    grey = (abs(picture - 0xD9).max(axis=2) == 0).sum(axis=0)
    left, right = grey[400:750].sum(), grey[750:].sum()
    assert left / right == pytest.approx(l1["zeros"] / l2["zeros"], rel=0.1)


def test_the_smallest_of_equal_values_of_c_is_best():
    scores = {0.4: {"mean_test_score": 0.9}, 0.1: {"mean_test_score": 0.9}, 0.05: {"mean_test_score": 0.8}}
    assert best(scores) == 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--digits", "[5, 5]"], "two different digits from 0 to 9, found 5 and 5"),
        (["--digits", "[5, 11]"], "found 5 and 11"),
        (["--grid", "[0.1, 0]"], "--grid must hold values of C greater than 0"),
        (["--jobs", "0"], "--jobs must be at least 1, found 0"),
        (["--data", "mnist", "--data_dir", "/nowhere"], "name their folder by --data_dir"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        linear_svm.main(words)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.skipif(
    not (Path(os.environ.get("DATA_DIR", "data")) / "MNIST" / "raw").is_dir(), reason="MNIST is not in DATA_DIR"
)
def test_number_of_images_in_mnist():
    sizes = [len(pair(read_digits("mnist", part), 5, 8).images) for part in ("train", "test")]
    assert sizes == [11_272, 1_866]
