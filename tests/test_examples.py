"""Each example runs as its docstring says, and what it prints shows that its block works."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = r"(-?\d+\.\d+)"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder, in this process, and return what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "path", sys.path[:])

    def run(name: str, *words: str) -> str:
        path = str(ROOT / "examples" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *words])
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run


def values(pattern: str, output: str) -> list[float]:
    """Return the numbers that follow a pattern, in order."""
    return [float(value) for value in re.findall(pattern + " " + NUMBER, output)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_gives_its_command(path):
    text = path.read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 60
    assert f"\n    python examples/{path.name}" in text
    assert f"(../examples/{path.name})" in (ROOT / "docs" / "blocks.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_sam_in_lightning(run):
    output = run("sam_in_lightning")
    assert values("test loss", output)[0] < 0.3
    assert values("accuracy", output)[0] > 0.92


def test_sam_mixed_precision(run):
    output = run("sam_mixed_precision")
    losses, perturbed = values("loss", output), values("perturbed weights", output)
    assert len(losses) == len(perturbed) == 6
    assert sum(perturbed) > sum(losses)  # the ascent
    assert losses[-1] < losses[0] / 2
    assert values("accuracy", output)[-1] > 0.85


def test_lamb_large_batch(run):
    output = run("lamb_large_batch")
    rates, losses = values("learning rate", output), values("loss", output)
    assert rates[0] < rates[1] > rates[-1]
    assert losses[0] > 2 > 0.1 > losses[-1]
    assert values("accuracy", output)[-1] > 0.88


def test_cocob_plain_loop(run):
    output = run("cocob_plain_loop")
    losses, accuracies = values("test loss", output), values("accuracy", output)
    assert losses[0] == pytest.approx(losses[1], abs=0.01)  # whatever the loss is multiplied by
    assert min(accuracies) > 0.85


@pytest.mark.slow
def test_spocu_in_timm(run):
    output = run("spocu_in_timm")
    assert re.search(r"^12 activations swapped$", output, re.MULTILINE)
    losses = values("loss", output)
    assert losses[-1] < losses[0] / 2
    assert values("accuracy", output)[-1] > 0.8


def test_data_module(run):
    output = run("data_module")
    assert "1258 train, 180 val, 359 test images" in output
    assert values("test loss", output)[-1] < 0.5
    assert values("accuracy", output)[-1] > 0.88


@pytest.mark.slow
def test_cluster_features(run):
    output = run("cluster_features")
    pixels, features = (values(f"{name}: adjusted Rand index", output)[0] for name in ("pixels", "features"))
    assert 0.5 < pixels < features - 0.1


def test_temperature_scaling(run):
    output = run("temperature_scaling")
    assert values("temperature", output)[0] > 1.2  # the network was overconfident
    before, after = (values("calibration error", line)[0] for line in output.splitlines()[1:])
    assert after < 0.7 * before
    losses, accuracies = values("loss", output), values("accuracy", output)
    assert losses[1] < losses[0]
    assert accuracies[0] == accuracies[1] > 0.85


@pytest.mark.slow
def test_explain_own_cnn(run, tmp_path):
    output = run("explain_own_cnn")
    assert values("accuracy", output)[0] > 0.8
    assert "Grad-CAM at second" in output
    assert re.search(r"y='\w+' \(probability=0\.\d+", output)
    (deletion,), (insertion,) = values("Deletion AUC", output), values("Insertion AUC", output)
    deletion_at_random, insertion_at_random = values("in random order", output)
    assert deletion < deletion_at_random
    assert insertion > insertion_at_random
    assert "data:image/png;base64" in (tmp_path / "explanation.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_new_optimizer(tmp_path):
    words = ["--seeds", "1", "--trainer.max_epochs", "5", "--trainer.accelerator", "cpu"]
    command = [sys.executable, str(ROOT / "examples" / "new_optimizer.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    accuracies = values("test/accuracy", done.stdout)
    assert len(accuracies) == 2
    assert min(accuracies) > 0.85


def test_predict_folder(run):
    assert int(re.search(r"(\d+) of 20 files", run("predict_folder"))[1]) >= 16
