"""The kernels on a GPU: values, gradients, memory formats, captured graphs, launches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from activations import SPOCU, _elementwise
from activations.functional import hardshrink, spocu
from reference.spocu import largest_term, worst_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = "cuda"
FUNCTIONS = {
    "spocu": spocu,
    "spocu, c=1": lambda x: spocu(x, c=1.0),
    "hardshrink": lambda x: hardshrink(x, -0.3, 0.7),
}
LARGE = (3, 5, 64, 65)


def plain(name, x):
    """Return the function in plain float64 operations: the CPU's own kernels would have to be compiled first."""
    wide = x.double()
    if name == "hardshrink":
        lower, upper = torch.tensor([-0.3, 0.7], dtype=x.dtype).tolist()
        return torch.where((wide >= lower) & (wide <= upper), 0, wide)
    z, origin = (
        (wide / 4.437 + 0.6653).clamp(0, 1.0 if "c=1" in name else None),
        torch.tensor(0.6653, dtype=torch.float64),
    )
    value, zero = (z**3 * (z**5 - 2 * z**4 + 2) for z in (z, origin))
    return 3.0937 * (value - zero)


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_as_the_plain_formula(name, dtype, layout):
    torch.manual_seed(0)
    x = torch.randn(LARGE).mul(4).to(dtype).to(memory_format=layout).requires_grad_()
    grad = torch.randn(LARGE).to(dtype)
    there = x.detach().to(DEVICE).requires_grad_()
    y, z = plain(name, x), FUNCTIONS[name](there)
    y.backward(grad.double())
    z.backward(grad.to(DEVICE))
    assert _elementwise._uncompilable == set()
    assert z.stride() == x.stride()
    for ours, theirs in ((z, y), (there.grad, x.grad)):
        tolerance = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 1e-6 * theirs.abs().max().item()}
        torch.testing.assert_close(ours.cpu(), theirs.to(dtype), **tolerance)


def test_accuracy_in_float32():
    x = torch.cat([torch.linspace(-20, 20, 20_001), torch.logspace(-30, 0, 101)])
    y = spocu(x.cuda()).cpu()
    some = slice(None, None, 9)
    assert worst_error(y[some].tolist(), x[some].tolist(), largest_term) < 2e-6


def test_double_backward_vmap_and_trained_parameters(function):
    x = torch.randn(20_000, device="cuda", dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.isfinite().all()
    torch.testing.assert_close(torch.func.vmap(function)(x.view(4, -1)).view(-1), function(x))
    module = SPOCU(trainable=True).cuda()
    module(torch.randn(100, device="cuda")).sum().backward()
    assert all(p.grad.isfinite() for p in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_launch_each_way_that_does_not_wait(function, dtype):
    x = torch.randn(LARGE, device="cuda", dtype=dtype, requires_grad=True)
    grad = torch.randn(LARGE, device="cuda", dtype=dtype)

    def step():
        torch.autograd.grad(function(x), x, grad)

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    assert names in (["spocu"] * 2, ["hardshrink"] * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_trained_parameters(dtype):
    torch.manual_seed(0)
    x, grad = (torch.randn(LARGE).mul(2).to(dtype) for _ in range(2))
    module, twin = SPOCU(c=1.0, trainable=True).cuda(), SPOCU(c=1.0, trainable=True).double()
    module(x.cuda()).backward(grad.cuda())
    twin(x.double()).backward(grad.double())
    for p, q in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad.cpu().double(), q.grad, rtol=1e-4, atol=1e-2)


CAPTURE = """
import torch
from activations import SPOCU
from activations.functional import hardshrink, spocu
x, grad = (torch.randn(3, 5, 64, 65, device="cuda") for _ in range(2))
module = SPOCU(trainable=True).cuda()
inputs = [x, *module.parameters()]
x.requires_grad_()
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    first = [torch.autograd.grad(f(x), x, grad)[0] for f in (spocu, hardshrink)]
    first += torch.autograd.grad(module(x), inputs, grad)
graph.replay()
wanted = [torch.autograd.grad(f(x), x, grad)[0] for f in (spocu, hardshrink)]
wanted += torch.autograd.grad(module(x), inputs, grad)
torch.testing.assert_close(first, wanted)
"""


def test_the_first_call_may_be_inside_a_capture():
    done = subprocess.run(
        [sys.executable, "-c", CAPTURE], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_captured_in_a_cuda_graph(function):
    x = torch.randn(LARGE, device="cuda", requires_grad=True)
    grad = torch.randn(LARGE, device="cuda")
    (wanted,) = torch.autograd.grad(function(x), x, grad)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        (actual,) = torch.autograd.grad(function(x), x, grad)
    graph.replay()
    torch.testing.assert_close(actual, wanted)
