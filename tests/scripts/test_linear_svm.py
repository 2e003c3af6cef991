"""scripts/linear_svm.py against a plain version."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch.utils.data import DataLoader, TensorDataset

import linear_svm
from _common.any_data import data_module
from _common.digit_images import read_digits
from _linear_svm.examples import as_texts, read_pair, scaled
from datamodules import TabularDataModule
from linear_svm import best, fit_all
from reference.linear_svm import plain_svm


def as_rows(part):
    digits = read_digits("digits", part)
    chosen = np.isin(digits.labels, (5, 8))
    return digits.images[chosen].reshape(chosen.sum(), -1) / 255.0, digits.labels[chosen]


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
    assert (results["train"], results["test"], results["classes"]) == (285, 71, ["5", "8"])
    l1, l2 = results["models"]["L1"], results["models"]["L2"]
    assert l1["fraction_zero"] == l1["zeros"] / 64 > l2["fraction_zero"]
    assert l2["zeros"] == results["empty_columns"]
    assert l2["fraction_zero_of_filled"] == 0
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
        (["--classes", "5", "5"], "--classes must be two different classes of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; found 5 5"),
        (["--classes", "[5, 11]"], "found 5 11"),
        (["--classes", "5"], "found 5"),
        (["--data", "nothing"], "unknown data module 'nothing'"),
        (["--data", "TabularDataModule", "--data.table", "none.csv"], "there is no table 'none.csv'"),
        (["--data", "DigitsDataModule", "--data.batch_size", "x"], "--data.batch_size: expected int, found x"),
        (["--data.table", "iris"], "--data.table belongs to a class that is not chosen: add --data NAME before it"),
        (["--grid", "[0.1, 0]"], "--grid must hold values of C greater than 0"),
        (["--jobs", "0"], "--jobs must be at least 1, found 0"),
        (["--data", "mnist", "--data_dir", "/nowhere"], "name the folder above with --data.data_dir"),
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
    pair = read_pair(data_module("mnist", val_size=0), ["5", "8"])
    assert (len(pair.x), len(pair.x_test)) == (11_272, 1_866)


def write_table(folder):
    bunch = load_iris(as_frame=True)
    table = bunch.frame.assign(species=[bunch.target_names[i] for i in bunch.target], constant=3).drop(columns="target")
    table.rename(columns={"sepal width (cm)": "$w$ [cm]"}).to_csv(folder / "iris.csv", index=False)
    return folder / "iris.csv"


def write_images(folder, size=6):
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for channel, name in enumerate(("cat", "dog", "owl")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (size, size, 3), dtype=np.uint8)
                pixels[2:4, 2:4, channel] += 100
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    return folder


def test_a_table_is_standardised_and_drawn_as_bars_with_its_names(tmp_path):
    words = ["--data", str(write_table(tmp_path)), "--data.target", "species", "--classes", "virginica", "setosa"]
    results = linear_svm.main([*words, "--grid", "[0.1]", "--folds", "2", "--output", str(tmp_path / "out")])
    assert results["classes"] == ["setosa", "virginica"]
    assert results["columns"][:2] == ["sepal length (cm)", "$w$ [cm]"]
    assert results["columns"][-1] == "constant"
    assert results["empty_columns"] == 1
    assert results["models"]["L2"]["weights"][-1] == 0
    assert results["models"]["L2"]["test_accuracy"] == 1
    # The same rows by scikit-learn alone: all but the test part, standardised.
    data = TabularDataModule(table=str(tmp_path / "iris.csv"), target="species", val_size=0)
    rows, labels = data.read("train")
    kept = {part: [int(i) for i in data.part_indices(part) if labels[i] != 1] for part in ("train", "test")}
    scaler = StandardScaler().fit(rows[kept["train"]].double())
    x, x_test = (scaler.transform(rows[kept[part]].double()) for part in ("train", "test"))
    machine = LinearSVC(dual=False, C=0.1, random_state=0).fit(x, labels[kept["train"]])
    assert results["models"]["L2"]["weights"] == pytest.approx(machine.coef_[0].tolist(), abs=1e-3)
    assert results["models"]["L2"]["test_accuracy"] == machine.score(x_test, labels[kept["test"]])
    assert np.asarray(Image.open(tmp_path / "out" / "linear_svm.png")).shape[1] == 1200


def test_colour_images_have_a_map_for_each_channel(tmp_path):
    folder = write_images(tmp_path / "pets")
    words = ["--data", str(folder), "--classes", "cat", "owl", "--grid", "[0.2]", "--folds", "2"]
    results = linear_svm.main([*words, "--output", str(tmp_path / "out")])
    assert results["shape"] == [3, 6, 6]
    weights = np.reshape(results["models"]["L2"]["weights"], (3, 6, 6))
    square = weights[:, 2:4, 2:4].mean((1, 2))
    assert square[0] < -3 * abs(square[1]) < 3 * abs(square[1]) < square[2]  # red is for cats, blue for owls
    assert np.asarray(Image.open(tmp_path / "out" / "linear_svm.png")).shape[:2] == (740, 1200)


class OwnData(pl.LightningDataModule):
    """A data module of somebody's, which knows no names."""

    def loader(self):
        x = torch.arange(24.0).reshape(12, 2)
        return DataLoader(TensorDataset(x, torch.arange(12) % 3), batch_size=5)

    train_dataloader = test_dataloader = loader


def test_a_data_module_of_the_users_is_read_by_its_loaders():
    pair = read_pair(OwnData(), [])
    assert pair.names == ("0", "1")
    assert pair.columns == ["column 0", "column 1"]
    assert pair.y.tolist() == [0, 1] * 4
    expected = torch.arange(24.0).reshape(12, 2)[torch.arange(12) % 3 != 2]
    np.testing.assert_allclose(pair.x, StandardScaler().fit_transform(expected.double()), atol=1e-12)


def test_scaling_and_words():
    pixels = torch.full((2, 1, 1, 2), 255, dtype=torch.uint8)
    assert scaled(pixels, pixels)[0].tolist() == [[1, 1], [1, 1]]
    assert [as_texts(words) for words in (["5", "8"], ["[5, 8]"], ["a,b"], [])] == [["5", "8"]] * 2 + [["a", "b"], []]
