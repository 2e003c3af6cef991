"""The command line of scripts/cluster.py, on small data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import cluster
from _cluster import choosing
from _cluster.choosing import read_k, silhouettes
from _cluster.probes import knn_accuracy, linear_accuracy
from _cluster.scatter import matched, scatter_plots
from clustering import KMeans


def results_in(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_generated_is_the_default(tmp_path):
    cluster.main(["--n", "3000", "--dim", "3", "--k", "4", "--output", str(tmp_path)])
    methods = results_in(tmp_path)["methods"]
    assert set(methods) == {"ours", "faiss.Kmeans", "scikit-learn"}
    assert methods["ours"]["inertia"] <= min(one["inertia"] for one in methods.values()) * (1 + 1e-6)
    assert methods["ours"]["adjusted Rand, truth"] > 0.9
    assert "Rand, scikit-learn" in methods["faiss.Kmeans"]
    assert list(tmp_path.glob("clusters.png"))


@pytest.mark.slow
def test_compare(tmp_path):
    cluster.main(["compare", "--samples", "150", "--output", str(tmp_path)])
    sets = results_in(tmp_path)["sets"]
    assert len(sets) == 6
    assert all(set(one) == {"KMeans", "DBSCAN", "MeanShift", "HDBSCAN"} for one in sets.values())
    assert list(tmp_path.glob("clusterings.png"))


def test_fit_a_users_array(tmp_path, capsys):
    rows = make_blobs(20_000, 3, centers=5, random_state=0)[0].astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    out = tmp_path / "centres.npz"
    cluster.main(["fit", str(tmp_path / "rows.npy"), "--k", "5", "--out", str(out)])
    model = KMeans.load(out)
    expected = KMeans(5, random_state=0).fit(rows)
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(np.load(out)["cluster_centers_"], expected.cluster_centers_)
    assert json.loads(out.with_suffix(".json").read_text())["inertia"] == expected.inertia_
    assert str(out) in capsys.readouterr().out.replace("\n", "")


def test_clusters_have_the_colours_and_names_of_their_classes():
    classes = np.repeat([0, 1, 2], 20)
    swapped = np.repeat([5, 9, 1], 20)
    split = np.concatenate([np.repeat([0, 1], 10), np.full(38, 2), [-1, -1]])
    rows = [[("truth", np.zeros((60, 2)), classes), ("same", np.zeros((60, 2)), swapped)]]
    figure = scatter_plots(rows, ["cat", "dog", "[kg]"])
    truth, same = (axes.collections[1].get_facecolors() for axes in figure.axes)
    np.testing.assert_array_equal(truth, same)
    assert len(np.unique(truth, axis=0)) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog", "[kg]"]

    figure = scatter_plots([[("truth", np.zeros((60, 2)), classes), ("split", np.zeros((60, 2)), split)]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 0", "class 1", "class 2", "noise"]
    assert "further clusters" in figure.legends[0].get_title().get_text()
    found = figure.axes[1].collections[1].get_facecolors()
    assert len(np.unique(np.vstack([truth, found]), axis=0)) == 4  # one more, of the split class


@pytest.mark.parametrize(
    ("labels", "renamed"),
    [
        ([3, 3, 8, 8], [0, 0, 1, 1]),
        ([1, 1, 0, 0], [0, 0, 1, 1]),
        ([5, 5, 5, 7], [0, 0, 0, 1]),
        ([-1, -1, -1, -1], [-1, -1, -1, -1]),
        ([-1, 6, 6, 6], [-1, 1, 1, 1]),
    ],
)
def test_clusters_are_renamed_to_their_classes(labels, renamed):
    assert matched(np.array(labels), np.array([0, 0, 1, 1]), 2).tolist() == renamed


def test_more_classes_than_colours_have_no_legend():
    labels = np.arange(40)
    assert scatter_plots([[("truth", np.zeros((40, 2)), labels), ("same", np.zeros((40, 2)), labels)]]).legends == []


@pytest.mark.parametrize("words", [[], ["--output", "mine"]])
def test_fit_writes_into_a_run(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(0).random((50, 2), np.float32))
    cluster.main(["fit", "rows.npy", "--k", "2", *words])
    (folder,) = [Path("mine")] if words else Path("runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {"centres.npz", "results.json"}
    assert results_in(folder)["k"] == len(KMeans.load(folder / "centres.npz").cluster_centers_) == 2
    assert str(folder / "centres.npz") in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"rows.npy", words[1] if words else "runs"}


@pytest.mark.slow
def test_torchrun_gives_the_same_centres(tmp_path):
    rows = make_blobs(40_000, 3, centers=5, random_state=0)[0].astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    words = ["--nproc-per-node", "2", cluster.__file__, "fit", str(tmp_path / "rows.npy"), "--k", "5"]
    command = [sys.executable, "-m", "torch.distributed.run", *words, "--out", str(tmp_path / "centres.npz")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = KMeans(5, random_state=0).fit(rows).cluster_centers_
    np.testing.assert_array_equal(KMeans.load(tmp_path / "centres.npz").cluster_centers_, expected)


def test_probes_agree_with_scikit_learn():
    train, truth = make_blobs(120, 6, centers=5, cluster_std=6.0, random_state=1)
    test, labels = train[80:], truth[80:]
    train, truth = train[:80], truth[:80]
    neighbours = KNeighborsClassifier(7, metric="cosine").fit(train, truth)
    assert 0.4 < knn_accuracy(train, truth, test, labels, 7) < 1
    assert knn_accuracy(train, truth, test, labels, 7) == pytest.approx(neighbours.score(test, labels))
    scaler = StandardScaler().fit(train)
    linear = LogisticRegression(max_iter=1000).fit(scaler.transform(train), truth)
    assert linear_accuracy(train, truth, test, labels) == pytest.approx(linear.score(scaler.transform(test), labels))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_silhouettes_agree_with_scikit_learn_and_choose_the_number_of_blobs(metric, monkeypatch):
    rows, _ = make_blobs(90, 3, centers=[[9, 0, 0], [0, 9, 0], [0, 0, 9]], random_state=0)
    rows = rows.astype(np.float32)
    found = silhouettes(rows, [2, 3, 4], metric, seed=0)
    for k, value in found.items():
        labels = KMeans(k, metric=metric, random_state=0).fit(rows).labels_
        assert value == pytest.approx(silhouette_score(rows, labels, metric=metric), abs=1e-6)
    assert max(found, key=found.get) == 3
    monkeypatch.setattr(choosing, "LARGEST", 60)
    assert silhouettes(rows, [3], metric, seed=0)[3] == pytest.approx(found[3], abs=0.05)


@pytest.mark.parametrize("text", ["1..3", "5..4", "2..20", "0", "21", "x", "2..", "-1"])
def test_a_wrong_range_of_clusters_is_refused(text):
    with pytest.raises(ValueError, match=r"--k must be .*, found "):
        read_k(text, 10, 20)


@pytest.mark.slow
def test_features_of_a_trained_network(tmp_path):
    import train

    epochs = ["--trainer.max_epochs", "6", "--trainer.enable_progress_bar", "false"]
    run = train.main(["fit", "--trainer.default_root_dir", str(tmp_path / "runs"), *epochs]).run.folder
    checkpoint = run / "checkpoints" / "best.ckpt"
    words = ["--checkpoint", str(checkpoint), "--picture", "tsne", "--output", str(tmp_path / "out")]
    cluster.main(["features", *words, "--k", "9..11", "--balanced"])
    results = results_in(tmp_path / "out")
    assert results["adjusted Rand"] > 0.3
    assert min(results["k-NN accuracy"], results["linear probe accuracy"]) > 0.8
    assert list(results["silhouette"]) == ["9", "10", "11"]
    assert results["clusters"] == int(max(results["silhouette"], key=results["silhouette"].get))
    assert results["largest cluster"] - results["smallest cluster"] <= 1
    assert results["examples"] > 100
    assert list((tmp_path / "out").glob("features.png"))
    assert list((tmp_path / "out").glob("tensorboard/**/tensors.tsv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "missing.npy", "--k", "3"], "missing.npy"),
        (["fit", "missing.npy", "--output", "mine", "--out", "centres.npz"], "--output names a folder"),
        (["features", "--checkpoint", "missing.ckpt"], "missing.ckpt"),
        (["features", "--balanced", "--metric", "cosine"], "--balanced needs --metric euclidean, found cosine"),
        (["features", "--neighbours", "0"], "--neighbours must be at least 1, found 0"),
        (["--n", "10", "--k", "20"], "n_clusters=20"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cluster.main(words)
    assert ended.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_a_checkpoint_without_a_run_is_refused(tmp_path, capsys):
    torch.save({"state_dict": {}, "global_step": 0, "hyper_parameters": {}}, tmp_path / "alone.ckpt")
    with pytest.raises(SystemExit):
        cluster.main(["features", "--checkpoint", str(tmp_path / "alone.ckpt")])
    assert capsys.readouterr().err.startswith("error: ")
