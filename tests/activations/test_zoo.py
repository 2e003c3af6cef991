"""Activations by name, and each of ours against its definition."""

import math

import pytest
import torch
from torch import nn

import activations
from activations import create, names
from activations.functional import lisht, snake, sparsemax


def test_names_hold_ours_torchs_and_timms():
    found = names()
    assert found == sorted(set(found))
    assert {"spocu", "hardshrink", "lisht", "snake", "sparsemax", "relu", "leakyrelu", "prelu", "threshold"} <= set(
        found
    )
    assert {"tanhshrink", "hardtanh", "logsigmoid", "gelutanh", "quickgelu", "hardmish", "swish"} <= set(found)
    assert not {"softmax", "multiheadattention", "glu", "module"} & set(found)


def test_ours_come_first_then_torchs():
    assert type(create("hardshrink", lower=-1.0)) is activations.Hardshrink
    assert type(create("gelu")) is nn.GELU
    assert type(create("Leaky_ReLU", negative_slope=0.2)) is nn.LeakyReLU
    assert type(create("gelu_tanh")).__module__.startswith("timm")
    assert create("spocu", c=1.0).c == 1.0


@pytest.mark.parametrize(("wrong", "near"), [("spocy", "spocu"), ("hard-shrunk", "hardshrink"), ("gellu", "gelu")])
def test_unknown_name_lists_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"no activation '{wrong}': the nearest are .*{near}"):
        create(wrong)
    with pytest.raises(ValueError, match=r"activations.names\(\) lists all"):
        create("qqqqqqqq")


def test_lisht_is_x_tanh_x():
    for x in (-50.0, -1.5, -1e-8, 0.0, 0.3, 2.0):
        assert lisht(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(x * math.tanh(x), rel=1e-14)


@pytest.mark.parametrize("frequency", [1.0, 0.5, -3.0])
def test_snake_is_x_plus_a_cosine(frequency):
    for x in (-50.0, -1.5, 0.0, 0.3, 2.0):
        wanted = x + (1 - math.cos(2 * frequency * x)) / (2 * frequency)
        assert snake(torch.tensor(x, dtype=torch.float64), frequency).item() == pytest.approx(wanted, rel=1e-12)
    with pytest.raises(ValueError, match="frequency must be finite and not 0, found 0"):
        activations.Snake(0.0)


def project(v):
    """The point of the simplex nearest to ``v``, by bisection on the threshold."""
    low, high = min(v) - 1.0, max(v)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(max(x - middle, 0.0) for x in v) > 1:
            low = middle
        else:
            high = middle
    return [max(x - low, 0.0) for x in v]


def test_sparsemax_is_the_projection_onto_the_simplex():
    torch.manual_seed(0)
    for size in (1, 2, 7, 100):
        x = torch.randn(size, dtype=torch.float64) * 2
        torch.testing.assert_close(sparsemax(x), torch.tensor(project(x.tolist()), dtype=torch.float64))
    x = torch.randn(3, 4, 5)
    assert torch.equal(sparsemax(x, dim=1), sparsemax(x.movedim(1, -1)).movedim(-1, 1))
    torch.testing.assert_close(sparsemax(x + 1e3, dim=0).sum(0), torch.ones(4, 5))
    assert sparsemax(torch.tensor(5.0)).item() == 1.0
    assert sparsemax(torch.tensor([[math.nan, 0.0], [1.0, 0.0]])).isnan().tolist() == [[True, True], [False, False]]
    assert sparsemax(torch.tensor([-math.inf, 0.0])).tolist() == [0.0, 1.0]
    assert torch.autograd.gradcheck(sparsemax, torch.randn(3, 5, dtype=torch.float64, requires_grad=True))


def test_sparsemax_of_half_precision_resolves_many_values():
    x = torch.zeros(4096, dtype=torch.float16)
    torch.testing.assert_close(sparsemax(x).float().sum(), torch.tensor(1.0), rtol=1e-2, atol=0)
