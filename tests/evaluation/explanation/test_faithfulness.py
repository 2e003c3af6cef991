"""Deletion, insertion, and the correlation with re-initialised weights."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy.stats import spearmanr
from torch import nn

from evaluation.explanation.faithfulness import area, faithfulness, reinitialised
from evaluation.explanation.grad_cam import grad_cam


class Corner(nn.Module):
    """Uses only the upper left quarter of an image."""

    def forward(self, images):
        return torch.stack([torch.zeros(len(images)), 0.5 * images[:, 0, :4, :4].sum((1, 2)) - 4], dim=1)


def corner_map(high=1.0):
    values = torch.zeros(8, 8)
    values[:4, :4] = high
    return values


def test_a_true_map_beats_chance_and_a_false_one_does_not():
    image, values = torch.ones(1, 8, 8), corner_map()
    right = faithfulness(Corner(), image, values, lambda net: values, 1)
    wrong = faithfulness(Corner(), image, -values, lambda net: values, 1)
    assert right.deletion < right.random_deletion < wrong.deletion
    assert right.insertion > right.random_insertion > wrong.insertion


def test_the_curves_agree_with_a_loop():
    torch.manual_seed(0)
    net, image = nn.Sequential(nn.Flatten(), nn.Linear(2 * 20, 3)).double(), torch.randn(2, 4, 5).double()
    values = torch.randn(4, 5, dtype=torch.float64)
    found = faithfulness(net, image, values, lambda net: values, 2, steps=20, fill=0.3, orders=1, draws=1)
    order = values.flatten().argsort(descending=True)
    deleted, inserted = image.clone(), torch.full_like(image, 0.3)
    curves = [[], []]
    net.requires_grad_(False)
    for pixel in [None, *order.tolist()]:
        if pixel is not None:
            row, column = divmod(pixel, 5)
            deleted[:, row, column], inserted[:, row, column] = 0.3, image[:, row, column]
        for curve, state in zip(curves, (deleted, inserted), strict=True):
            curve.append(float(net(state[None]).softmax(1)[0, 2]))
    np.testing.assert_allclose(found.deletion_curve, curves[0], rtol=1e-9)
    np.testing.assert_allclose(found.insertion_curve, curves[1], rtol=1e-9)
    assert found.deletion == pytest.approx(np.trapezoid(curves[0], dx=1 / 20))
    assert area(torch.tensor([1.0, 0.0])) == 0.5


def test_the_correlation_is_spearmans_with_new_weights():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 2))
    image = torch.randn(1, 8, 8)

    def explain(network):
        return grad_cam(network, image[None], 1, relu=False).values[0]

    found = faithfulness(net, image, explain(net), explain, 1, draws=2, seed=5)
    others = [explain(reinitialised(net, seed)) for seed in (5, 6)]
    expected = [spearmanr(explain(net).flatten(), other.flatten()).statistic for other in others]
    assert found.random_correlation == pytest.approx(np.mean(expected))
    assert found.remark == ""
    blind = faithfulness(net, image, explain(net), lambda network: explain(net), 1)
    assert blind.random_correlation == pytest.approx(1)  # detects a map that does not depend on the weights


def test_the_correlation_of_a_constant_map_is_undefined():
    image, values = torch.ones(1, 8, 8), corner_map()
    flat = faithfulness(Corner(), image, torch.ones(8, 8), lambda net: values, 1)
    assert flat.random_correlation is None
    assert flat.correlation_text == "undefined: the map is constant"
    other = faithfulness(Corner(), image, values, lambda net: torch.zeros(8, 8), 1)
    assert other.random_correlation is None
    assert other.remark == "undefined: the maps of the re-initialised network are constant"


def test_new_weights_are_new_and_the_old_ones_stay():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.TransformerEncoderLayer(4, 1, 8)).bfloat16()
    net.own = nn.Parameter(torch.arange(6.0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    first, again, second = reinitialised(net, 1), reinitialised(net, 1), reinitialised(net, 2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    for name in ("0.weight", "2.self_attn.in_proj_weight", "2.linear1.weight"):
        assert not torch.equal(first.state_dict()[name], before[name])
        assert not torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert sorted(first.own.tolist()) == sorted(before["own"].tolist())
    assert first.own.tolist() != before["own"].tolist()


def test_a_trainer_is_not_copied():
    model = pl.LightningModule()
    model.net = nn.Linear(2, 2)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    other = reinitialised(model)
    assert other._trainer is None
    assert model.trainer is not None
    assert not torch.equal(other.net.weight, model.net.weight)


def test_the_same_seed_gives_the_same_numbers():
    image, values = torch.randn(1, 8, 8), corner_map()
    found = [faithfulness(Corner(), image, values, lambda net: torch.rand(8, 8), 1, draws=1, seed=s) for s in (0, 0, 1)]
    assert found[0].random_deletion == found[1].random_deletion != found[2].random_deletion


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive integer"),
        ({"target": 2}, "target must be in 0..1, found 2"),
        ({"values": torch.zeros(8)}, r"image must be \[C, H, W\] and values \[h, w\]"),
    ],
)
def test_it_refuses(options, message):
    arguments = {"values": corner_map(), "target": 1} | options
    with pytest.raises(ValueError, match=message):
        faithfulness(Corner(), torch.ones(1, 8, 8), explain=lambda net: corner_map(), **arguments)
