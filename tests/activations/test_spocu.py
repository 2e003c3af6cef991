"""SPOCU against its definition in 50 digits."""

import copy
import functools
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import SPOCU
from activations import spocu as spocu_file
from activations.functional import spocu
from reference.spocu import DEFAULTS, largest_term, largest_term_of_slope, slope, worst_error
from reference.spocu import spocu as exact

SETTINGS = [
    {**DEFAULTS, "c": math.inf},
    {**DEFAULTS, "c": 1.0},
    {**DEFAULTS, "c": 1.3},
    {"alpha": 0.5, "beta": 0.02, "gamma": 1.0, "c": math.inf},
    {"alpha": 1e-3, "beta": 0.99, "gamma": 100.0, "c": 2.0},
    {"alpha": 2.0, "beta": 0.3, "gamma": 1e-3, "c": 1.0},
]


def points(parameters, dtype):
    """Return a grid over [-20, 20], numbers close to 0, and numbers around every breakpoint."""
    grid = torch.linspace(-20, 20, 1201, dtype=torch.float64)
    near = torch.logspace(-30, 0, 61, dtype=torch.float64)
    b, g, c = parameters["beta"], parameters["gamma"], parameters["c"]
    breakpoints = [(z - b) * g for z in (0.0, 1.0, c) if math.isfinite(z)]
    around = torch.tensor(
        [j + s * max(abs(j), 1e-3) * h for j in breakpoints for s in (-1, 0, 1) for h in (1e-12, 1e-6, 1e-3)]
    )
    return torch.cat([grid, near, -near, around.double(), torch.zeros(1, dtype=torch.float64)]).to(dtype)


def build(parameters, dtype, trainable):
    """Return a module and its parameters, which are rounded to `dtype` if they are trained."""
    module = SPOCU(**parameters, trainable=trainable)
    if trainable:
        module.to(dtype)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.fill_(parameters[name])
        parameters = parameters | {name: parameter.item() for name, parameter in module.named_parameters()}
    return module, parameters


@pytest.mark.parametrize("trainable", [False, True], ids=["fixed", "trainable"])
@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-13), pytest.param(torch.float32, 2e-6, marks=pytest.mark.slow)], ids=str
)
def test_value_and_gradient_are_accurate_to_a_few_roundings(parameters, dtype, bound, trainable):
    module, parameters = build(parameters, dtype, trainable)
    x = points(parameters, dtype).requires_grad_()
    y = module(x)
    y.sum().backward()
    assert worst_error(y.tolist(), x.tolist(), largest_term, **parameters) < bound
    _, b, g, c = parameters.values()
    for value, gradient in zip(x.tolist(), x.grad.tolist(), strict=True):
        # The gradient jumps at c: next to it the rounded position of the jump decides.
        if abs(value / g + b - c) > 4 * torch.finfo(dtype).eps:
            error = abs(gradient - float(slope(value, **parameters)))
            assert error < bound * largest_term_of_slope(value, **parameters)


@pytest.mark.parametrize("trainable", [False, True], ids=["fixed", "trainable"])
@pytest.mark.parametrize("beta", [1e-3, 0.3, 0.6653, 0.99, 0.999])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 2e-6)], ids=str)
def test_relative_error_near_zero(beta, dtype, bound, trainable):
    module, parameters = build({**DEFAULTS, "beta": beta, "c": math.inf}, dtype, trainable)
    near = torch.logspace(-30, math.log10(4.437 * min(beta, 1 - beta) / 10), 100, dtype=torch.float64).to(dtype)
    x = torch.cat([near, -near])
    assert worst_error(module(x).tolist(), x.tolist(), exact, **parameters) < bound


@pytest.mark.parametrize("parameters", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str)
def test_half_precision_is_within_one_rounding_of_the_largest_term(parameters, dtype):
    # Every seventh number of the type at which the result is finite.
    bits = torch.arange(-(2**15), 2**15, 7, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype)
    x = x[x.isfinite() & (x.abs() < 13)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = spocu(x, **parameters)
    wanted = torch.tensor([float(exact(v, **parameters)) for v in x.tolist()], dtype=torch.float64)
    scale = torch.tensor([float(largest_term(v, **parameters)) for v in x.tolist()], dtype=torch.float64)
    rounding = scale.clamp(min=torch.finfo(dtype).tiny) * torch.finfo(dtype).eps
    assert ((y.double() - wanted).abs() <= rounding).all()


@pytest.mark.parametrize("c", [math.inf, 1.0, 1.3])
def test_gradients_of_the_parameters(c):
    torch.manual_seed(0)
    x = (torch.randn(20, dtype=torch.float64) * 3).requires_grad_()
    parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in DEFAULTS.values()]
    assert torch.autograd.gradcheck(functools.partial(spocu, c=c), (x, *parameters))
    assert torch.autograd.gradgradcheck(functools.partial(spocu, c=c), (x, *parameters))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    alpha=st.floats(1e-3, 1e3),
    beta=st.floats(1e-3, 0.999),
    gamma=st.floats(1e-4, 1e4),
    c=st.one_of(st.floats(1.0, 5.0), st.just(math.inf)),
    scaled=st.lists(st.floats(-5, 5).filter(lambda v: abs(v) > 1e-20 or v == 0), min_size=1, max_size=8),
    double=st.booleans(),
)
def test_any_parameters(alpha, beta, gamma, c, scaled, double):
    dtype, bound = (torch.float64, 1e-13) if double else (torch.float32, 2e-6)
    x = torch.tensor(scaled, dtype=torch.float64).mul(gamma).to(dtype).requires_grad_()
    y = spocu(x, alpha, beta, gamma, c)
    y.sum().backward()
    assert worst_error(y.tolist(), x.tolist(), largest_term, alpha=alpha, beta=beta, gamma=gamma, c=c) < bound
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("c", [math.inf, 1.0])
@pytest.mark.parametrize("trainable", [False, True])
def test_gradients_of_huge_inputs_are_finite(dtype, c, trainable):
    high = 1e4 if c == math.inf else 1e30
    x = torch.tensor([-torch.finfo(dtype).max, -1e30, -1e10, high, -0.0, 0.0], dtype=dtype, requires_grad=True)
    y = SPOCU(c=c, trainable=trainable)(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert (x.grad[:3] == 0).all()
    assert x.grad[3] > 0 if c == math.inf else x.grad[3] == 0


def test_zero_is_zero_and_special_values():
    y = spocu(torch.tensor([0.0, math.nan, math.inf, -math.inf]))
    assert y[0] == 0
    assert y[1].isnan()
    assert y[2] == math.inf
    assert y[3].item() == pytest.approx(float(exact(-100.0)))
    assert spocu(torch.tensor([math.inf]), c=1.0).item() == pytest.approx(float(exact(100.0, c=1.0)))


@pytest.mark.parametrize("c", [math.inf, 1.0])
@pytest.mark.parametrize("trainable", [False, True])
def test_gradients_at_infinity(c, trainable):
    x = torch.tensor([-math.inf, -1e30, math.inf], requires_grad=True)
    module = SPOCU(c=c, trainable=trainable)
    module(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, math.inf if c == math.inf else 0.0]
    assert not any(p.grad.isnan() for p in module.parameters())
    # Where the output is infinite, autograd's own gradient of beta is inf - inf.
    x = x.detach()[: 2 if c == math.inf else 3].requires_grad_()
    plain = torch.autograd.grad(torch.compile(module, backend="eager")(x).sum(), [x, *module.parameters()])
    assert not any(gradient.isnan().any() for gradient in plain)


def test_claims_of_the_docstring():
    assert spocu(torch.tensor(13.85)).item() < 65504 < spocu(torch.tensor(14.0)).item()
    top = 4.437 * (1 - 0.6653)
    x = torch.linspace(-5, 1000, 100_000, dtype=torch.float64)
    steps = spocu(x).diff()
    assert (steps[x[1:] <= top] >= 0).all()
    assert steps.min() < 0
    assert spocu(x).min() < -5
    assert (spocu(x, c=1.0).diff() >= 0).all()
    far = torch.tensor([1e6, 2e6], dtype=torch.float64)
    assert (spocu(far)[1] / spocu(far)[0]).item() == pytest.approx(2**8, rel=1e-4)


def test_float16_without_a_cut_warns_once():
    spocu_file._warn_float16.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spocu(torch.ones(2, dtype=torch.float16), c=1.0)
        assert not caught
        SPOCU()(torch.ones(2, dtype=torch.float16))
        SPOCU()(torch.ones(2, dtype=torch.float16))
    assert ["float16" in str(w.message) for w in caught] == [True]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0.0}, "alpha must be positive and finite, found 0"),
        ({"gamma": -1.0}, "gamma must be positive and finite, found -1"),
        ({"gamma": math.inf}, "gamma must be positive and finite, found inf"),
        ({"beta": 1.0}, "beta must be between 0 and 1, both excluded, found 1"),
        ({"beta": math.nan}, "beta must be between 0 and 1, both excluded, found nan"),
        ({"c": 0.5}, r"c must be at least 1 \(math.inf for no cut\), found 0.5"),
        ({"c": math.nan}, "c must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SPOCU(**wrong)
    with pytest.raises(ValueError, match=message):
        spocu(torch.ones(1), **wrong)


def test_parameters_per_channel_are_refused():
    with pytest.raises(ValueError, match=r"alpha must be a number or a tensor, 0-d or \[1\], found shape \[3\]"):
        spocu(torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("parameters", [{}, {"c": 1.0}, {"beta": 0.3, "gamma": 2.0, "c": 1.7}])
def test_gradcheck_of_spocu(parameters):
    torch.manual_seed(0)
    x = (torch.randn(4, 6, dtype=torch.float64) * 3).requires_grad_()

    def f(x):
        return spocu(x, **parameters)

    checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(f, x, **checks)
    assert torch.autograd.gradgradcheck(f, x, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True)


def test_third_derivative():
    x = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    d = spocu(x, 1.0, 0.5, 2.0)
    for _ in range(3):
        (d,) = torch.autograd.grad(d, x, create_graph=True)
    z = 1.5 / 2 + 0.5
    assert d.item() == pytest.approx((336 * z**5 - 420 * z**4 + 12) / 8, rel=1e-12)


def test_trained_constants_are_sharded_and_older_ones_load(tmp_path):
    """FSDP2 refuses parameters without a dimension, which older checkpoints have."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = torch.nn.Sequential(torch.nn.Linear(2, 2), SPOCU(c=1.0, trainable=True))
    older = {name: value[0] + 0.1 if "1." in name else value for name, value in net.state_dict().items()}
    net.load_state_dict(older)
    assert float(net[1].alpha) == pytest.approx(3.1937)
    copied = copy.deepcopy(net)
    copied.load_state_dict(older)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        fully_shard(net, mesh=init_device_mesh("cpu", (1,)))
        net(torch.ones(3, 2)).sum().backward()
        assert net[1].gamma.grad.full_tensor().shape == (1,)
    finally:
        distributed.destroy_process_group()
