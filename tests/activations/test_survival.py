"""The suite that every activation passes: its cases come from the package."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

from activations import class_path, create, names

OURS = [name for name in names() if class_path(name).startswith("activations.")]
ARGUMENTS = {"threshold": {"threshold": 0.1, "value": 0.0}}
VARIANTS = {
    "spocu cut": ("spocu", {"c": 1.0}),
    "spocu trainable": ("spocu", {"trainable": True}),
    "hardshrink asymmetric": ("hardshrink", {"lower": -0.1, "upper": 0.7}),
}
ALL = [*names(), *VARIANTS]
OWN = [*OURS, *VARIANTS]
# Limits of torch's own modules; strict, so that a torch release that lifts one is noticed.
LIMITS = {
    "vmap": {"rrelu": "no batching rule"},
    "grad": {"rrelu": "no batching rule"},
    "second": {"hardsigmoid": "no second derivative", "rrelu": "no batching rule"},
    "format": {"logsigmoid": "returns contiguous memory", "rrelu": "returns contiguous memory"},
}


def each(names, limit):
    """Return `names`, with those that torch limits marked as failing."""
    known = LIMITS[limit]
    return [pytest.param(n, marks=pytest.mark.xfail(reason=known[n], strict=True)) if n in known else n for n in names]


def slow_but(quick, among=ALL):
    """Return activations, with all but the quick ones marked slow."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in among]


def make(name):
    kind, arguments = VARIANTS.get(name, (name, ARGUMENTS.get(name, {})))
    return create(kind, **arguments).eval()  # in evaluation RReLU draws no random numbers


def is_elementwise(name):
    x = torch.linspace(-1, 1, 8)  # a random one with its maximum among the first three would not tell
    return torch.allclose(make(name)(x.clone())[:3], make(name)(x[:3].clone()))


ELEMENTWISE = [name for name in ALL if is_elementwise(name)]


@pytest.fixture(params=ALL)
def name(request):
    return request.param


@pytest.fixture
def module(name):
    return make(name)


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 3, 4, 5)


@pytest.fixture
def wanted(module, x):
    with torch.no_grad():
        return module(x)


def test_all_activations_are_listed():
    assert {"spocu", "hardshrink", "lisht", "snake", "sparsemax"} <= set(OURS)
    assert set(ALL) - set(ELEMENTWISE) >= {"sparsemax"}
    assert len(ALL) >= 35


def test_save_and_load(module, name, x, wanted):
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    other = make(name)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(x), wanted)
    assert torch.equal(copy.deepcopy(module)(x), wanted)
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    assert torch.equal(torch.load(stream, weights_only=False)(x), wanted)


def test_symbolic_trace(module, name, x, wanted):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = module

        def forward(self, x):
            return self.activation(x * 1.0)

    traced = torch.fx.symbolic_trace(Block())
    assert torch.equal(traced(x), wanted)
    if name.split()[0] in OURS:  # one node each, so the traced graph is as fast, for any input
        assert [n.op for n in traced.graph.nodes if n.op == "call_function"][-1:] == ["call_function"]
        assert torch.equal(traced(x.double()), make(name)(x.double()))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_jit_trace(module, x, wanted):
    traced = torch.jit.trace(module, (x.clone(),))
    torch.testing.assert_close(traced(x), wanted)
    torch.testing.assert_close(traced(x[:1] + 1), module(x[:1] + 1))


def test_make_fx(module, x, wanted):
    from torch.fx.experimental.proxy_tensor import make_fx

    torch.testing.assert_close(make_fx(module)(x)(x), wanted)


@pytest.mark.parametrize("name", slow_but(OWN))
def test_export(module, x, wanted):
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.testing.assert_close(program.module()(x), wanted)
    torch.testing.assert_close(program.module()(torch.cat([x, x])), module(torch.cat([x, x])))


@pytest.mark.parametrize("name", slow_but(OWN))
def test_compile_without_breaks(module, x, wanted):
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = compiled(a), module(b)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), a), torch.autograd.grad(z.sum(), b))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", slow_but(["spocu trainable"], OWN))
def test_onnx(module, x, wanted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "activation.onnx"
    torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(actual), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", each(ALL, "vmap"))
def test_vmap(module, x, wanted):
    if type(module).__name__ == "PReLU":
        pytest.skip("PReLU needs the channel dimension, which vmap removes")
    actual = torch.func.vmap(module)(x)
    torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("name", each(ELEMENTWISE, "grad"))
def test_functional_derivatives_agree(module):
    torch.manual_seed(1)
    x = torch.randn(6, dtype=torch.float64)
    module = module.double()

    def total(v):
        return module(v).sum()

    gradient = torch.func.grad(total)(x)
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(module(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, plain)
    jacobian = torch.func.jacrev(module)(x)
    torch.testing.assert_close(jacobian, torch.diag(plain))
    tangent = torch.randn_like(x)
    torch.testing.assert_close(torch.func.jvp(module, (x,), (tangent,))[1], plain * tangent)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(lambda v: module(v[None]).sum()))(x), plain)


@pytest.mark.parametrize("name", each(ELEMENTWISE, "second"))
def test_hessian_and_double_backward_agree(module):
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    module = module.double()
    (first,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    hessian = torch.func.hessian(lambda v: module(v).square().sum())(x.detach())
    torch.testing.assert_close(hessian, torch.diag(second))


def test_gradcheck(module, name):
    torch.manual_seed(2)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    module = module.double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(module, x)
        if name != "hardsigmoid":  # see LIMITS
            assert torch.autograd.gradgradcheck(module, x)


def test_autocast(module, x, wanted):
    layer = nn.Linear(5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inner = layer(x)
        y = module(inner)
    assert inner.dtype == torch.bfloat16
    assert y.dtype in (torch.bfloat16, torch.float32)
    torch.testing.assert_close(y.float(), module(inner.detach().float()), rtol=2e-2, atol=2e-2)
    y.float().sum().backward()
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", each(ALL, "format"))
def test_memory_formats(module, name, x, wanted):
    last = x.to(memory_format=torch.channels_last)
    y = module(last)
    torch.testing.assert_close(y, wanted)
    assert y.is_contiguous(memory_format=torch.channels_last) or name not in ELEMENTWISE
    strided = torch.cat([x, x], -1)[..., :5]
    torch.testing.assert_close(module(strided), wanted)
    expanded = x[:1].expand(2, 3, 4, 5)
    torch.testing.assert_close(module(expanded), module(expanded.contiguous()))


def test_empty_and_zero_dimensional(module, name, x):
    for shape in ((0,), (0, 3, 4), ()):
        leaf = torch.randn(shape, requires_grad=True)
        y = module(leaf)
        assert y.shape == leaf.shape
        y.sum().backward()
        assert leaf.grad.shape == leaf.shape
    assert torch.equal(module(x[0, 0, 0, 0]), module(x[0, 0, 0, :1])[0]) or name not in ELEMENTWISE


@pytest.mark.parametrize("name", [*OURS, *VARIANTS])
def test_complex_is_refused(module):
    with pytest.raises(ValueError, match=r"takes real floating-point tensors, found torch\.complex64: convert"):
        module(torch.ones(2, dtype=torch.complex64))


@pytest.mark.parametrize("name", [*OURS, *VARIANTS])
def test_deferred_and_meta_tensors(module):
    assert module(torch.empty(2, 3, device="meta")).shape == (2, 3)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        assert module(torch.empty(200, 300)).shape == (200, 300)
