"""scripts/gradient_check.py: correct gradients pass, wrong ones fail, kinks are recognised."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import activations
import gradient_check
import optim
from _gradient_check import subjects as gradient_subjects
from _gradient_check.differences import compare, has_kink
from lightning_modules.backbones import TwoLayerNet
from optim import reference


class WrongSigmoid(torch.autograd.Function):
    """A sigmoid whose gradient is too large by a factor of 1.00001."""

    @staticmethod
    def forward(ctx, x):
        y = x.sigmoid()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return 1.00001 * grad * y * (1 - y)


class WrongSigmoidModule(nn.Module):
    def forward(self, x):
        return WrongSigmoid.apply(x)


@pytest.fixture
def quick(monkeypatch):
    """Only the layers, and a narrower TwoLayerNet."""
    monkeypatch.setattr(gradient_check, "TwoLayerNet", partial(TwoLayerNet, hidden=3))
    monkeypatch.setattr(gradient_check, "zoo", lambda seed: [])
    monkeypatch.setattr(gradient_check, "backbones", lambda images, labels, seed: [])
    monkeypatch.setattr(gradient_check, "draw", lambda results, network: Figure())
    return ["--samples", "4"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradients")
    words = ["--samples", "15", "--backbone_samples", "1", "--output", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_check, "TwoLayerNet", partial(TwoLayerNet, hidden=10))  # 50 take ten seconds
        return gradient_check.main(words), folder


def test_two_layer_net_is_correct_in_every_coordinate(results):
    rows = results[0]["TwoLayerNet"]
    sizes = {"affine1.weight": 7_840, "affine1.bias": 10, "affine2.weight": 100, "affine2.bias": 10}
    assert {name: row["coordinates"] for name, row in rows.items()} == sizes
    for row in rows.values():
        assert row["right"]
        assert 0 < row["mean"] <= 1e-9
        assert row["mean"] <= row["largest"] <= 1e-8


def test_every_kind_is_checked_and_correct(results):
    rows, folder = results
    assert json.loads((folder / "results.json").read_text()) == rows
    assert rows["wrong"] == []
    assert set(rows["activations"]) == set(activations.names())
    assert len(rows["layers"]) == 10
    assert {"TwoLayerNet", "MLP", "SmallConvNet", "resnet8", "resnet20", "ResNet"} < set(rows["backbones"])
    assert {"LAMB", "COCOB", "SAM"} <= set(rows["optimizers"])
    assert all(row["largest"] < 1e-12 for row in rows["optimizers"].values())
    rows = rows["layers"] | rows["activations"] | rows["backbones"]
    assert all(row["relative"] < 1e-7 and row["coordinates"] > 2 * row["kinks"] for row in rows.values())
    assert np.asarray(Image.open(folder / "gradient_check.png").convert("L")).shape == (900, 1100)


def test_a_wrong_gradient_ends_in_exit_code_1(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(gradient_subjects.LAYERS, "sigmoid", (WrongSigmoidModule, (4, 7)))
    with pytest.raises(SystemExit) as ended:
        gradient_check.main([*quick, "--output", str(tmp_path)])
    assert ended.value.code == 1
    assert "error: 1 of the gradients is wrong: layers: sigmoid" in capsys.readouterr().err
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["layers"]["sigmoid"]["relative"] == pytest.approx(1e-5, rel=0.01)
    assert results["layers"]["sigmoid"]["kinks"] == 0
    assert [name for name, row in results["layers"].items() if not row["right"]] == ["sigmoid"]


def test_a_wrong_network_ends_in_exit_code_1(quick, monkeypatch, tmp_path, capsys):
    wrong = partial(TwoLayerNet, hidden=3, activation=WrongSigmoidModule)
    monkeypatch.setattr(gradient_check, "TwoLayerNet", wrong)
    with pytest.raises(SystemExit) as ended:
        gradient_check.main([*quick, "--output", str(tmp_path)])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert "TwoLayerNet: affine1.bias" in error
    assert "affine2" not in error


def test_a_wrong_optimizer_ends_in_exit_code_1(quick, monkeypatch, tmp_path, capsys):
    class Wrong(optim.LAMB):
        def __init__(self, params, **options):
            super().__init__(params, eps=1e-5, **options)

    monkeypatch.setattr(optim, "LAMB", Wrong)
    with pytest.raises(SystemExit):
        gradient_check.main([*quick, "--output", str(tmp_path)])
    assert "error: 1 of the gradients is wrong: optimizers: LAMB" in capsys.readouterr().err


@pytest.mark.slow
def test_a_new_optimizer_is_checked_once_it_has_a_twin(quick, monkeypatch, tmp_path, capsys):
    class Mine(torch.optim.SGD):
        """Plain gradient descent."""

    monkeypatch.setattr(optim, "Mine", Mine, raising=False)
    results = gradient_check.main([*quick, "--output", str(tmp_path / "without")])
    assert {"LAMB", "COCOB", "SAM", "SAM, adaptive"} <= set(results["optimizers"])
    assert "Mine" not in results["optimizers"]
    assert "Mine is not checked: it has no twin optim/reference/mine.py" in capsys.readouterr().err
    (tmp_path / "mine.py").write_text(
        "class SlowMine:\n"
        "    def __init__(self, w):\n        self.w = w.detach().clone()\n"
        "    def step(self, grad):\n        self.w = self.w - 1e-3 * grad\n        return self.w\n"
    )
    monkeypatch.setattr(reference, "__path__", [*reference.__path__, str(tmp_path)])
    results = gradient_check.main([*quick, "--output", str(tmp_path / "with")])
    assert results["optimizers"]["Mine"]["largest"] < 1e-14
    assert "Mine" not in capsys.readouterr().err


@pytest.mark.parametrize("distance", [0.0, 0.05, 0.2, 0.3, 0.333, 0.4, 0.49, 0.51, 0.7, 0.9, 1.5])
def test_a_kink_is_not_a_wrong_gradient(distance):
    h = 1e-4
    x = torch.tensor([0.3 + distance * h], dtype=torch.float64, requires_grad=True)
    loss = lambda: (x - 0.3).relu().sum() + x.square().sum()  # noqa: E731
    with torch.no_grad():
        assert has_kink(loss, x, 0, h, loss().item(), 1e-6) == (distance < 1)
    difference = compare(loss, {"x": x}, h, 1e-6, None)["x"]
    assert difference.kinks == (distance < 1)
    assert difference.largest < 1e-6


def test_a_jump_is_a_kink_and_not_a_number_is_wrong():
    x = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    difference = compare(lambda: torch.where(x > 0.5, x, 0).sum(), {"x": x}, 1e-6, 1e-6, None)["x"]
    assert (difference.kinks, difference.coordinates) == (1, 2)
    assert difference.largest < 1e-8
    bad = compare(lambda: (x - 0.5).sqrt().sum() * 0 + x.sum(), {"x": x}, 1e-6, 1e-6, None)["x"]
    assert math.isnan(bad.largest)


def test_a_gradient_of_zero_is_wrong_where_the_loss_is_not_flat():
    x = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    difference = compare(lambda: (x.detach() ** 2).sum() + 0 * x.sum(), {"x": x}, 1e-6, 1e-6, None)["x"]
    assert (difference.kinks, difference.scale) == (0, 0)
    assert difference.largest == pytest.approx(4, rel=1e-6)


def test_a_function_of_kinks_alone_is_not_correct():
    class Step(nn.Module):
        def forward(self, x):
            return (x * 1e6).round()  # a jump within every step

    (row,) = gradient_check.check_some([gradient_subjects.of_module("step", Step(), (3, 4), 0)], 5, 0).values()
    assert not row["right"]


def test_dropout_keeps_its_mask_and_the_weights_are_restored():
    subject = gradient_subjects.of_module("dropout", nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5)), (4, 5), 1)
    before = {name: tensor.detach().clone() for name, tensor in subject.tensors.items()}
    assert subject.loss().item() == subject.loss().item()
    compare(subject.loss, subject.tensors, 1e-5, 1e-6, 3)
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.tensors.items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0"], "--samples must be at least 1, found 0"),
        (["--data", "mnist", "--data_dir", "/nowhere"], "MNIST's four files are not in /nowhere/MNIST/raw"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        gradient_check.main(words)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
