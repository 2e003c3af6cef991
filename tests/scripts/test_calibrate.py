"""scripts/calibrate.py on a run of scripts/train.py, and on generated data."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, brier_score_loss
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import calibrate
import train
from datamodules import DigitsDataModule
from evaluation import TemperatureScaling, calibration_error
from lightning_modules import ImageClassifier

ON_CPU = ["--trainer.accelerator", "cpu"]
SCALERS = {"TemperatureScaling", "VectorScaling", "PlattScaling", "DirichletCalibration"}
SCALERS |= {"IsotonicCalibration", "HistogramBinning"}


def training(root, *arguments):
    quick = ["--model.backbone", "TwoLayerNet", "--trainer.max_epochs", "2", "--data.val_size", "0.3"]
    quick += ["--data.batch_size", "32", "--data.watch_test", "false"]
    quick += ["--data.eval_batch_size", "100"]
    return train.main([*quick, *arguments, *ON_CPU, "--trainer.default_root_dir", str(root)]).run.folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return training(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def results(run):
    options = ["--replicates", "20", "--accelerator", "cpu"]
    return calibrate.main(["--checkpoint", str(run / "checkpoints" / "best.ckpt"), *options])


def test_numbers_agree_with_training(run, results):
    trained = json.loads((run / "results.json").read_text())
    before = results["methods"]["uncalibrated"]
    for name in ("ece", "nll", "accuracy"):
        assert before[name] == pytest.approx(trained[f"test/{name}"], abs=1e-6)
    assert json.loads((run / "calibration" / "results.json").read_text()) == results


def test_scalers_are_fitted_to_the_validation_split(run, results):
    assert SCALERS | {"uncalibrated"} == results["methods"].keys()
    model = ImageClassifier.load_from_checkpoint(run / "checkpoints" / "best.ckpt", weights_only=True).eval()
    data = DigitsDataModule(val_size=0.3)
    data.setup()
    splits = {}
    for split in ("val", "test"):
        batches = list(getattr(data, f"{split}_dataloader")())
        with torch.no_grad():
            logits = torch.cat([model(images) for images, _ in batches])
        splits[split] = logits, torch.cat([labels for _, labels in batches])
    scaler = TemperatureScaling().fit(*splits["val"])
    assert results["fitted"]["TemperatureScaling"]["temperature_"] == pytest.approx(
        scaler.temperature_.item(), rel=1e-4
    )
    p = scaler.predict_proba(splits["test"][0])
    row = results["methods"]["TemperatureScaling"]
    assert row["ece"] == pytest.approx(float(calibration_error(p, splits["test"][1])), abs=1e-4)
    assert row["accuracy"] == results["methods"]["uncalibrated"]["accuracy"]


def test_figure_and_calibrated_checkpoint(run, results):
    picture = np.asarray(Image.open(run / "calibration" / "reliability.png"))
    assert picture.shape[:2] == (1080, 1840)
    assert picture.std() > 10
    checkpoint = run / "calibration" / "checkpoints" / "calibrated.ckpt"
    train.main(["test", "--ckpt_path", str(checkpoint), *ON_CPU])
    tested = json.loads((run / "calibration" / "test.json").read_text())
    after = results["methods"]["TemperatureScaling"]
    for name in ("ece", "nll", "accuracy"):
        assert tested[f"test/{name}"] == pytest.approx(after[name], abs=1e-5)
    train.main(["predict", "--ckpt_path", str(checkpoint), *ON_CPU])
    rows = np.genfromtxt(run / "calibration" / "predictions.csv", delimiter=",", skip_header=1)
    predicted = rows[np.arange(len(rows)), 3 + rows[:, 1].astype(int)]  # index, label, prediction, probabilities
    assert -np.log(predicted).mean() == pytest.approx(after["nll"], abs=1e-4)
    model = ImageClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    temperature = results["fitted"]["TemperatureScaling"]["temperature_"]
    assert model.backbone.scaler.temperature_.item() == pytest.approx(temperature)


@pytest.mark.slow
def test_numbers_agree_with_training_at_another_precision(tmp_path):
    run = training(tmp_path, "--trainer.precision", "bf16-mixed")
    checkpoint = str(run / "checkpoints" / "best.ckpt")
    options = [
        "--replicates",
        "2",
        "--accelerator",
        "cpu",
        "--keep",
        "VectorScaling",
        "--output",
        str(tmp_path / "out"),
    ]
    results = calibrate.main(["--checkpoint", checkpoint, *options])
    trained = json.loads((run / "results.json").read_text())
    assert results["methods"]["uncalibrated"]["ece"] == pytest.approx(trained["test/ece"], abs=1e-7)
    assert (tmp_path / "out" / "checkpoints" / "calibrated.ckpt").is_file()
    assert results["kept"] == "VectorScaling"


def test_mistakes_end_in_one_line(tmp_path, run, capsys):
    without = training(tmp_path, "--data.val_size", "0")
    stray = tmp_path / "stray.ckpt"
    stray.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    cases = {
        str(without / "checkpoints" / "last.ckpt"): "there is no val split to calibrate on",
        str(stray): "is not in the folder of a run",
        str(tmp_path / "absent.ckpt"): "no checkpoint at",
    }
    for checkpoint, words in cases.items():
        with pytest.raises(SystemExit):
            calibrate.main(["--checkpoint", checkpoint, "--accelerator", "cpu"])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert words in line
    trained = calibrate.main(
        ["--checkpoint", next(iter(cases)), "--on_training_data", "true", "--replicates", "2", "--accelerator", "cpu"]
    )
    assert trained["fitted_on"] == "train"


@pytest.mark.slow
def test_support_vector_machines(tmp_path):
    results = calibrate.main(["--output", str(tmp_path / "svm"), "--replicates", "5"])
    inputs, labels = make_classification(20_000, 20, n_informative=2, n_redundant=10, random_state=42)
    x, x_test, y, y_test = train_test_split(inputs, labels, test_size=0.9, random_state=42)
    assert len(y_test) == 18_000
    platt = CalibratedClassifierCV(SVC(), method="sigmoid", cv=5).fit(x, y)
    p = platt.predict_proba(x_test)[:, 1]
    row = results["methods"]["SVC + Platt"]
    assert row["brier"] == pytest.approx(brier_score_loss(y_test, p))
    assert row["accuracy"] == pytest.approx(accuracy_score(y_test, platt.predict(x_test)))
    assert results["methods"]["SVC"]["accuracy"] == pytest.approx(SVC().fit(x, y).score(x_test, y_test))
    errors = {name: row["ece"] for name, row in results["methods"].items()}
    assert len(errors) == 4
    assert all(error < 0.3 * errors["SVC"] for name, error in errors.items() if name != "SVC")
    assert np.asarray(Image.open(tmp_path / "svm" / "calibration.png")).std() > 10
