"""scripts/landscape.py: directions, surfaces and eigenvalues against independent computations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import landscape
from _common.hessian import hessian_product, top_eigenvalue
from _landscape.between import between, check_same_network
from _landscape.surface import filter_normalized, losses_along
from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier


def network(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), *middle, nn.Flatten(), nn.Linear(12, 4)).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 4, (20,), generator=generator)


def test_filters_of_a_direction_have_the_norms_of_the_networks():
    model = network(nn.BatchNorm2d(3), nn.Tanh())
    with torch.no_grad():
        model[0].weight[1] *= 7
    weights = list(model.parameters())
    direction = filter_normalized(weights, seed=5)
    for weight, moved in zip(weights, direction, strict=True):
        if weight.ndim < 2:  # biases, and the parameters of normalisation
            assert not moved.any()
            continue
        for own, other in zip(weight, moved, strict=True):
            assert other.norm().item() == pytest.approx(own.norm().item(), rel=1e-12)
    again, other = filter_normalized(weights, seed=5), filter_normalized(weights, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(direction, again, strict=True))
    assert not torch.equal(direction[0], other[0])
    # Another network gets the same random numbers; only the norms of its filters differ.
    scaled = filter_normalized([3 * weight.detach() for weight in weights], seed=5)
    torch.testing.assert_close(scaled[0], 3 * direction[0])


def test_losses_are_of_the_moved_network_and_the_weights_are_restored():
    model = network(nn.BatchNorm2d(3), nn.ReLU()).eval()
    x, y = batch()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    weights = list(model.parameters())
    directions = [filter_normalized(weights, seed) for seed in (0, 1)]
    points = [(0.0, 0.0), (0.3, 0.0), (-0.7, 0.5)]
    result = losses_along(model, lambda: F.cross_entropy(model(x), y), directions, points)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name  # running statistics too
    names = [name for name, _ in model.named_parameters()]
    for (a, b), loss in zip(points, result, strict=True):
        moved = dict(state)
        for i, name in enumerate(names):
            moved[name] = state[name] + a * directions[0][i] + b * directions[1][i]
        logits = torch.func.functional_call(model, moved, (x,))
        assert loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-12)


def test_the_weights_are_restored_after_an_error_too():
    model = network()
    before = model[0].weight.detach().clone()

    def broken():
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        losses_along(model, broken, [filter_normalized(list(model.parameters()), 0)], [(0.5,)])
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("spectrum", [[4.0, 1.0, -2.0], [4.0, 1.0, -9.0], [-1.0, -2.0, -7.0], [5.0, 4.9, 0.0]])
def test_the_top_eigenvalue_of_a_known_quadratic(spectrum):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ basis.T
    a = torch.randn(2, generator=generator, dtype=torch.float64).requires_grad_()
    b = torch.randn(1, generator=generator, dtype=torch.float64).requires_grad_()

    def loss():
        w = torch.cat([a, b])
        return w @ matrix @ w / 2 + w.sum()

    result = top_eigenvalue(loss, [a, b], iterations=2000, tolerance=1e-8)
    assert result.value == pytest.approx(max(spectrum), abs=1e-5)
    assert result.residual < 1e-5
    assert result.history[-1] == result.value


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_the_top_eigenvalue_of_a_network_agrees_with_its_whole_hessian(activation):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, 3)).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.arange(30) % 3
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    shapes = [p.shape for p in model.parameters()]

    def of_vector(vector):
        parts = {n: v.view(s) for n, v, s in zip(names, vector.split(sizes), shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, parts, (x,)), y)

    vector = torch.cat([p.detach().flatten() for p in model.parameters()])
    whole = torch.autograd.functional.hessian(of_vector, vector)
    exact = torch.linalg.eigvalsh(whole)[-1].item()
    weights = list(model.parameters())
    result = top_eigenvalue(lambda: F.cross_entropy(model(x), y), weights, iterations=5000, tolerance=1e-7)
    assert result.value == pytest.approx(exact, rel=1e-6)
    v = torch.randn(len(vector), dtype=torch.float64)
    product = hessian_product(lambda: F.cross_entropy(model(x), y), weights)(v)
    torch.testing.assert_close(product, whole @ v, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscape")
    words = ["--epochs", "12", "--examples", "200", "--points", "5", "--output", str(folder)]
    return landscape.main(words), folder


@pytest.mark.slow
def test_two_networks_are_trained_and_compared(trained):
    results, folder = trained
    assert json.loads((folder / "results.json").read_text()) == results
    assert (len(results["grid"]), len(results["line"])) == (5, 9)
    for name, row in results["networks"].items():
        surface = np.array(row["surface"])
        assert surface.shape == (5, 5)
        # The centre of the surface is the network; its middle row and column are on the two lines.
        assert surface[2, 2] == row["loss"] == row["line"][0][4] == row["line"][1][4]
        np.testing.assert_allclose(surface[2], row["line"][0][::2], rtol=1e-9)
        np.testing.assert_allclose(surface[:, 2], row["line"][1][::2], rtol=1e-9)
        assert row["mean_rise"] == pytest.approx(surface.mean() - row["loss"], rel=1e-9)
        assert row["residual"] <= 1e-3 * row["top_eigenvalue"]
        assert row["test_accuracy"] > 0.85
        assert surface.max() > 2 * row["loss"], name
    assert results["networks"]["SGD"]["top_eigenvalue"] != results["networks"]["SAM"]["top_eigenvalue"]


def test_the_numbers_agree_with_the_checkpoints(trained):
    results, folder = trained
    for name in ("SGD", "SAM"):
        row = results["networks"][name]
        model = ImageClassifier.load_from_checkpoint(row["checkpoint"], weights_only=True).eval().double()
        assert model.hparams["optimizer"]["class_path"].endswith(name)
        data = DigitsDataModule(val_size=0)
        data.setup("test")
        images, labels = (torch.cat(part) for part in zip(*data.test_dataloader(), strict=True))
        with torch.no_grad():
            right = (model(images.double()).argmax(1) == labels).double().mean().item()
        assert row["test_accuracy"] == pytest.approx(right)
        events = EventAccumulator(str(folder / "tensorboard" / name)).Reload()
        curve = [event.value for event in events.Scalars("landscape/direction_2")]
        np.testing.assert_allclose(curve, row["line"][1], rtol=1e-6)
        assert len(events.Scalars("landscape/top_eigenvalue")) == len(row["power_iterations"])
    for file in ("landscape.png", "relief.png"):
        assert np.asarray(Image.open(folder / file).convert("L")).std() > 10


def test_given_checkpoints_are_measured_and_unchanged(trained, tmp_path):
    results, _ = trained
    paths = [results["networks"][name]["checkpoint"] for name in ("SGD", "SAM")]
    before = [Path(path).read_bytes() for path in paths]
    words = ["--checkpoints", *paths, "--examples", "200", "--points", "5", "--output", str(tmp_path)]
    again = landscape.main(words)
    assert list(again["networks"].values()) == list(results["networks"].values())
    assert [name.rpartition("/")[2] for name in again["networks"]] == ["last", "last"]
    assert again["between"] == results["between"]
    assert [Path(path).read_bytes() for path in paths] == before
    assert not (tmp_path / "runs").exists()


def test_the_line_and_the_plane_between_two_networks(trained):
    results, folder = trained
    found, rows = results["between"], list(results["networks"].values())
    at = {t: losses for t, *losses in zip(found["line"], *found["losses"], strict=True)}
    assert at[0.0][0] == pytest.approx(rows[0]["loss"], rel=1e-12)
    assert at[1.0][0] == pytest.approx(rows[1]["loss"], rel=1e-12)
    inside = {t: losses[0] for t, losses in at.items() if 0 <= t <= 1}
    chord = {t: (1 - t) * at[0.0][0] + t * at[1.0][0] for t in inside}
    assert found["barriers"][0] == pytest.approx(max(inside[t] - chord[t] for t in inside), rel=1e-9, abs=1e-15)
    plane = np.array(found["plane"])
    assert plane.shape == (5, 5)
    np.testing.assert_allclose(plane[2], [at[t][0] for t in found["x"]], rtol=1e-9)  # the middle row is the line
    # In the middle of the line, by hand.
    states = [torch.load(row["checkpoint"], weights_only=True)["state_dict"] for row in rows]
    model = ImageClassifier.load_from_checkpoint(rows[0]["checkpoint"], weights_only=True).eval().double()
    model.load_state_dict({name: (states[0][name].double() + states[1][name].double()) / 2 for name in states[0]})
    data = DigitsDataModule(val_size=0)
    data.setup("test")
    images, labels = (torch.cat(part)[:200] for part in zip(*data.test_dataloader(), strict=True))
    with torch.no_grad():
        assert at[0.5][1] == pytest.approx(F.cross_entropy(model(images.double()), labels).item(), rel=1e-9)
    assert np.asarray(Image.open(folder / "between.png").convert("L")).shape == (430, 1100)


def test_buffers_move_along_the_line_and_no_further():
    model, other = (network(nn.BatchNorm2d(3)).eval() for _ in range(2))
    with torch.no_grad():
        for value in other.state_dict().values():
            value.add_(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    means = []

    def losses():
        means.append(model[1].running_var.mean().item())
        return [float(model[0].bias.sum())]

    found = between(model, other.state_dict(), losses, points=3, seed=0)
    assert found["line"] == [-0.5, 0, 0.5, 1, 1.5]
    assert means[:5] == pytest.approx([1, 1, 1.5, 2, 2])
    assert np.diff(found["losses"][0]) == pytest.approx([1.5] * 4)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    number = sum(value.numel() for value in model.parameters())
    assert found["distance"] == pytest.approx(number**0.5)


def test_networks_that_differ_are_refused():
    def message(first, second):
        with pytest.raises(ValueError, match="give two checkpoints of the same network") as caught:
            check_same_network(first, second, ["a", "b"])
        return str(caught.value)

    one = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert "1 is ReLU() in a and Tanh() in b" in message(one, nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
    assert "out_features=4" in message(one, nn.Sequential(nn.Linear(2, 4), nn.ReLU()))
    assert "1 is ReLU() in a and no such layer in b" in message(one, nn.Sequential(nn.Linear(2, 3)))
    check_same_network(one, nn.Sequential(nn.Linear(2, 3), nn.ReLU()), ["a", "b"])


@pytest.mark.slow
def test_an_inaccurate_eigenvalue_causes_a_warning(trained, tmp_path, capsys):
    paths = [row["checkpoint"] for row in trained[0]["networks"].values()]
    words = ["--examples", "50", "--points", "2", "--iterations", "1", "--output", str(tmp_path)]
    landscape.main(["--sgd", paths[0], "--sam", paths[1], *words])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 2
    assert all("raise --iterations" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoints", "some.ckpt"], "--checkpoints must be two checkpoints, without --sgd and --sam, found 1"),
        (["--sgd", "some.ckpt"], "give two checkpoints, --sgd and --sam"),
        (["--points", "1"], "--points must be at least 2, found 1"),
        (["--radius", "0"], "--radius must be greater than 0"),
        (["--sgd", "/nowhere/a.ckpt", "--sam", "/nowhere/b.ckpt"], "no checkpoint at /nowhere/a.ckpt"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        landscape.main(words)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
