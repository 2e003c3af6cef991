"""scripts/uncertainty.py on a short run of scripts/train.py."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import train
import uncertainty
from _common.rebuild import rebuild
from _uncertainty.outputs import outputs_of, outside_batches, photo_pieces

TINY = ["--model.backbone", "TwoLayerNet", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    folder = train.main([*TINY, "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(root)])
    return folder.run.folder / "checkpoints" / "best.ckpt"


def test_results_are_those_of_the_logits(checkpoint):
    results = uncertainty.main(["--checkpoint", str(checkpoint), "--alpha", "0.2", "--k", "5"])
    run = rebuild(checkpoint, "cpu")
    test = outputs_of(run, "test")
    trained = json.loads((checkpoint.parent.parent / "results.json").read_text())
    assert results["selective"]["energy"]["accuracy"] == pytest.approx(trained["test/accuracy"], abs=1e-6)
    assert results["conformal"]["lac"]["coverage"] >= 0.7
    assert 1 <= results["conformal"]["lac"]["size"] <= 10
    others = outputs_of(run, batches=outside_batches(run, "photos", len(test.labels), 0))
    scores = [np.asarray(each.logits.double().softmax(1).amax(1)) for each in (test, others)]
    expected = roc_auc_score(np.repeat([1, 0], [len(s) for s in scores]), np.concatenate(scores))
    assert results["outliers"]["max probability"]["auroc"] == pytest.approx(expected, abs=1e-6)
    assert list(results["outliers"]) == ["max probability", "energy", "5th nearest feature"]
    folder = checkpoint.parent.parent / "uncertainty"
    assert json.loads((folder / "results.json").read_text()) == results
    assert (folder / "uncertainty.png").stat().st_size > 10_000


def test_a_folder_of_any_images_is_outside_too(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "photos" / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + number, 31, 3), dtype=np.uint8)).save(path)
    results = uncertainty.main(["--checkpoint", str(checkpoint), "--outside", str(tmp_path / "photos")])
    assert results["outside"] == str(tmp_path / "photos")
    run = rebuild(checkpoint, "cpu")
    outputs_of(run, "test")  # which sets the data up
    given = list(outside_batches(run, str(tmp_path / "photos"), 30, 0))
    assert [len(labels) for _, labels in given] == [30]
    assert given[0][0].shape[1:] == run.datamodule.image_shape
    low, high = ((value - run.datamodule.mean[0]) / run.datamodule.std[0] for value in (0.0, 1.0))
    assert low - 1e-4 <= given[0][0].min() < given[0][0].max() <= high + 1e-4


def test_a_data_module_of_the_same_shape_is_outside_too(checkpoint):
    results = uncertainty.main(["--checkpoint", str(checkpoint), "--outside", "DigitsDataModule"])
    assert results["outliers"]["energy"]["auroc"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--outside", "Nope"], "--outside must be photos, a folder or one of"),
        (["--alpha", "2"], "alpha must be in (0, 1), found 2.0"),
        (["--k", "100000"], "k=100000 neighbours need as many features"),
    ],
)
def test_mistakes_are_one_line(checkpoint, words, message, capsys):
    with pytest.raises(SystemExit):
        uncertainty.main(["--checkpoint", str(checkpoint), *words])
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_pieces_of_the_photographs():
    grey, colour = photo_pieces((1, 8, 8), 30, 0), photo_pieces((3, 32, 32), 30, 0)
    assert grey.shape == (30, 1, 8, 8)
    assert colour.shape == (30, 3, 32, 32)
    assert 0 <= float(colour.min()) < 0.2 < 0.8 < float(colour.max()) <= 1
    with pytest.raises(ValueError, match=r"one or three channels, found \[16\]"):
        photo_pieces((16,), 3, 0)
