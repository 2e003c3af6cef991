"""Activations by name, and each of ours against its definition."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import activations
from activations import class_path, class_paths, create, names
from activations.functional import lisht, snake, sparsemax


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def clipped(x, low, high):
    return min(max(x, low), high)


def r(z):
    return z**8 - 2 * z**7 + 2 * z**3


# Each function as the literature defines it, with its usual constants. New ones of ours are defined in their own tests.
DEFINITIONS = {
    "celu": lambda x: max(x, 0) + min(0, math.exp(x) - 1),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "gelutanh": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hardmish": lambda x: x / 2 * clipped(x + 2, 0, 2),
    "hardshrink": lambda x: 0 if abs(x) <= 0.5 else x,
    "hardsigmoid": lambda x: clipped(x + 3, 0, 6) / 6,
    "hardswish": lambda x: x * clipped(x + 3, 0, 6) / 6,
    "hardtanh": lambda x: clipped(x, -1, 1),
    "identity": lambda x: x,
    "leakyrelu": lambda x: x if x >= 0 else 0.01 * x,
    "lisht": lambda x: x * math.tanh(x),
    "logsigmoid": lambda x: -softplus(-x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "prelu": lambda x: x if x >= 0 else 0.25 * x,
    "quickgelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: clipped(x, 0, 6),
    "rrelu": lambda x: x if x >= 0 else (1 / 8 + 1 / 3) / 2 * x,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "snake": lambda x: x + (1 - math.cos(2 * x)) / 2,
    "softplus": softplus,
    "softshrink": lambda x: math.copysign(max(abs(x) - 0.5, 0), x),
    "softsign": lambda x: x / (1 + abs(x)),
    "spocu": lambda x: 3.0937 * (r(max(x / 4.437 + 0.6653, 0)) - r(0.6653)),
    "swish": lambda x: x * sigmoid(x),
    "tanh": math.tanh,
    "tanhshrink": lambda x: x - math.tanh(x),
    "threshold": lambda x: x if x > 0.1 else 0.2,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_activation_matches_its_definition(name):
    module = create(name, **({"threshold": 0.1, "value": 0.2} if name == "threshold" else {})).double().eval()
    x = torch.linspace(-9, 9, 181, dtype=torch.float64)
    wanted = torch.tensor([float(DEFINITIONS[name](v)) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(module(x.clone()).detach(), wanted, rtol=1e-9, atol=1e-9)


def test_every_name_of_torchs_and_timms_has_a_definition():
    assert {n for n in names() if not class_path(n).startswith("activations.")} <= set(DEFINITIONS) <= set(names())


def test_names_include_ours_torchs_and_timms():
    assert names() == sorted(set(names()))
    ours = {"spocu", "hardshrink", "lisht", "snake", "sparsemax"}
    assert ours | {"relu", "leakyrelu", "prelu", "threshold"} <= set(names())
    assert {"tanhshrink", "hardtanh", "logsigmoid", "gelutanh", "quickgelu", "hardmish", "swish"} <= set(names())
    assert not {"softmax", "multiheadattention", "glu", "module"} & set(names())


def test_ours_come_first_then_torchs():
    assert type(create("hardshrink", lower=-1.0)) is activations.Hardshrink
    assert type(create("gelu")) is nn.GELU
    assert type(create("Leaky_ReLU", negative_slope=0.2)) is nn.LeakyReLU
    assert type(create("gelu_tanh")).__module__.startswith("timm")
    assert create("spocu", c=1.0).c == 1.0


def test_class_paths_lead_to_the_classes():
    for kind, path in class_paths().items():
        assert path == class_path(kind)
        assert path.endswith(f".{kind}")
        assert type(create(kind, **({"threshold": 0.1, "value": 0.2} if kind == "Threshold" else {}))).__name__ == kind


@pytest.mark.slow
def test_timm_is_imported_for_its_own_names_only():
    code = "import sys, activations as a; a.create('relu'); a.create('spocu'); print('timm' in sys.modules, end=' ')"
    code += "; print('torch._dynamo' in sys.modules, end=' '); a.create('gelutanh'); print('timm' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False", "True"]


@pytest.mark.parametrize(("wrong", "near"), [("spocy", "spocu"), ("hard-shrunk", "hardshrink"), ("gellu", "gelu")])
def test_unknown_name_lists_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"no activation '{wrong}': the nearest are .*{near}"):
        create(wrong)
    with pytest.raises(ValueError, match=r"activations.names\(\) lists all"):
        create("qqqqqqqq")


def test_lisht_is_x_times_tanh_x():
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
    """Return the point of the simplex nearest to `v`, by bisection on the threshold."""
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
