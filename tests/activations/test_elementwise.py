"""The compiled pass: the tensors it saves, when plain operations replace it, and that both agree."""

import math
import subprocess
import sys
import warnings

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from activations import SPOCU, Hardshrink, _elementwise
from activations.functional import hardshrink, spocu

FUNCTIONS = {
    "spocu": spocu,
    "spocu, c=1": lambda x: spocu(x, c=1.0),
    "hardshrink": lambda x: hardshrink(x, -0.3, 0.7),
}
LARGE = (3, 5, 64, 65)  # not a multiple of a vector register, and large enough for a compiled kernel


class Watching(TorchDispatchMode):
    """Watches every operation without changing it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Mapped(torch.utils.data.Dataset):
    """A data set of one example, which the worker computes."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return spocu(self.x)


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(_elementwise, "_kernel", lambda *_: None)


def derivatives(function, x, grad):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    (first,) = torch.autograd.grad(y, x, grad, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x) if first.requires_grad else (torch.zeros_like(x),)
    return y.detach(), first.detach(), second


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_is_the_same_function_as_plain_operations(function, dtype, monkeypatch):
    torch.manual_seed(0)
    x, grad = (torch.randn(LARGE).mul(4).to(dtype) for _ in range(2))
    assert x.numel() > _elementwise._SMALL
    compiled = derivatives(function, x, grad)
    assert _elementwise._uncompilable == set()
    monkeypatch.setattr(_elementwise, "_kernel", lambda *_: None)
    eager = derivatives(function, x, grad)
    monkeypatch.setattr(_elementwise, "is_ordinary", lambda _: False)
    plain = derivatives(function, x, grad)
    for ours, blocks, operations in zip(compiled, eager, plain, strict=True):
        scale = operations.abs().max().item()
        tolerance = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 1e-6 * scale}
        torch.testing.assert_close(ours, blocks, **tolerance)
        torch.testing.assert_close(ours, operations, **tolerance)


def test_saves_its_input_and_nothing_else(function):
    saved = []
    x = torch.randn(LARGE, requires_grad=True)
    with saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        function(x * 1.0)
    x_saved = [t for t in saved if t.numel() == x.numel()]
    assert len(x_saved) == 1
    assert torch.equal(x_saved[0], x)
    assert sum(t.numel() for t in saved) <= x.numel() + 1  # the factor of the product


@pytest.mark.parametrize("size", [2, 40])
def test_memory_formats(function, size):
    x = torch.randn(2, 6, size, size)
    flat = function(x)
    for other in (
        x.to(memory_format=torch.channels_last),
        x.transpose(1, 3).contiguous().transpose(1, 3),
        x.repeat_interleave(2, dim=3)[..., ::2],
        torch.cat([x, x], 1)[:, :6],
    ):
        y = function(other.requires_grad_())
        torch.testing.assert_close(y, flat)
        assert y.stride() == torch.empty_like(other).stride()
        grad = torch.randn(2, 6, size, size)
        (first,) = torch.autograd.grad(y, other, grad)
        (second,) = torch.autograd.grad(function(x.requires_grad_()), x, grad)
        torch.testing.assert_close(first, second)
    expanded = torch.randn(6, 1, 1).expand(2, 6, size, size)
    torch.testing.assert_close(function(expanded), function(expanded.contiguous()))
    (total,) = torch.autograd.grad(function(x).sum(), x)
    torch.testing.assert_close(total, torch.autograd.grad(function(x), x, torch.ones_like(x))[0])


def test_result_may_be_changed_in_place(function):
    x = torch.randn(LARGE, requires_grad=True)
    y = function(x)
    y.add_(1).mul_(2)
    y.sum().backward()
    (wanted,) = torch.autograd.grad(function(x), x, torch.full(LARGE, 2.0))
    torch.testing.assert_close(x.grad, wanted)


def large_step(function, shape=LARGE):
    x = torch.randn(shape, requires_grad=True)
    function(x).backward(torch.randn(shape))


@pytest.mark.parametrize("forgotten", [False, True], ids=["", "after torch._dynamo.reset"])
def test_compiled_once_for_every_size_shape_and_state(function, forgotten):
    large_step(function)
    if forgotten:  # as torch.compile's users do between two models
        torch._dynamo.reset()
        large_step(function)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for shape in ((9000,), (100, 300), (4, 3, 60, 60)):
            large_step(function, shape)
            x = torch.randn(shape)
            function(x[1:])
            function(x.requires_grad_()).sum().backward()
            function(torch.nn.Parameter(torch.randn(shape))).backward(torch.randn(shape))
        with torch.inference_mode():
            function(torch.randn(LARGE))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            large_step(function)
        with torch.device("cpu"):
            large_step(function)
        torch.set_num_threads(2)
        large_step(function)
        torch.set_default_dtype(torch.float64)
        try:
            function(torch.randn(LARGE, dtype=torch.float32))
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [8193, 10007, 65599])
def test_sizes_that_are_not_a_multiple_of_a_register(function, dtype, size):
    torch.manual_seed(0)
    x = torch.randn(size + 1).mul(3).to(dtype)[1:]
    y = function(x.requires_grad_())
    (actual,) = torch.autograd.grad(y, x, torch.ones_like(y))
    whole = torch.cat([x.detach(), torch.zeros(-size % 64, dtype=dtype)]).requires_grad_()
    wanted = function(whole)
    assert torch.equal(y, wanted[:size])
    assert torch.equal(actual, torch.autograd.grad(wanted, whole, torch.ones_like(wanted))[0][:size])


@pytest.mark.parametrize("specialize", [False, True])
def test_no_parameter_is_compiled_in(specialize):
    x = torch.randn(LARGE).mul(3)
    settings = [(0.0, 0.0), (-1.0, -1.0), (-0.0, 0.5), (-0.3, 0.7)]
    wanted = [torch.where((x >= lower) & (x <= upper), 0, x) for lower, upper in settings]
    hardshrink(x)
    torch._dynamo.reset()
    try:
        with torch._dynamo.config.patch(specialize_int=specialize, error_on_recompile=not specialize):
            for bounds, result in zip(settings, wanted, strict=True):
                assert torch.equal(hardshrink(x, *bounds), result)
    finally:
        torch._dynamo.reset()


def test_with_torch_compile_disabled():
    x = torch.randn(LARGE)
    wanted = spocu(x, c=1.0)
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(spocu(x, c=1.0), wanted, rtol=1e-5, atol=1e-6)


def test_threads_share_the_work_and_the_result(function):
    x = torch.randn(1 << 20)
    alone = function(x)
    torch.set_num_threads(2)
    assert torch.equal(function(x), alone)


def test_in_a_forked_process_with_kernels_of_its_parent():
    x = torch.randn(LARGE)
    torch.set_num_threads(2)
    wanted = spocu(x)
    loader = torch.utils.data.DataLoader(Mapped(x), batch_size=None, num_workers=1, multiprocessing_context="fork")
    (actual,) = list(loader)
    torch.testing.assert_close(actual, wanted)


def test_forward_mode_through_the_compiled_kernels(function):
    x, tangent = torch.randn(LARGE), torch.randn(LARGE)
    with torch.autograd.forward_ad.dual_level():
        y = function(torch.autograd.forward_ad.make_dual(x, tangent))
        actual = torch.autograd.forward_ad.unpack_dual(y).tangent
    _, wanted = torch.func.jvp(function, (x,), (tangent,))
    torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("uncompiled")
def test_uncompiled_saves_only_the_input_too(function):
    test_saves_its_input_and_nothing_else(function)


@pytest.mark.slow
def test_without_a_compiler_it_warns_once_and_computes_the_same():
    code = """
import warnings, torch
from activations.functional import spocu, hardshrink
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    x = torch.linspace(-5, 5, 20000, requires_grad=True)
    for f in (spocu, hardshrink, spocu):
        f(x).sum().backward()
print([str(w.message) for w in caught if "uncompiled" in str(w.message)])
small = torch.cat([spocu(p) for p in x.split(1000)])
print(torch.equal(spocu(x), small))
"""
    environment = {"CXX": "/nowhere/c++", "PATH": "", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    messages, same = done.stdout.strip().splitlines()[-2:]
    assert messages.count("activations run uncompiled") == 1
    assert same == "True"


def test_complex_and_integers_are_refused(function):
    for dtype in (torch.complex64, torch.int64, torch.bool):
        with pytest.raises(ValueError, match=f"takes real floating-point tensors, found {dtype}"):
            function(torch.ones(3, dtype=dtype))


def test_infinite_gradients_do_not_become_nan_where_hardshrink_is_flat():
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hardshrink(x).backward(torch.tensor([math.inf, math.inf]))
    assert x.grad.tolist() == [0.0, math.inf]


def test_inside_a_compiled_network():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), SPOCU(), torch.nn.Conv2d(8, 4, 3), Hardshrink(-0.1, 0.3))
    x = torch.randn(4, 3, 24, 24)
    network(x).sum().backward()
    wanted = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)
    compiled(x).sum().backward()
    torch.testing.assert_close([p.grad for p in network.parameters()], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("c", [math.inf, 1.0])
def test_trained_parameters_save_the_input_and_get_the_plain_gradients(dtype, c):
    torch.manual_seed(0)
    x, grad = (torch.randn(LARGE).mul(3).to(dtype) for _ in range(2))
    module = SPOCU(c=c, trainable=True)

    def gradients():
        leaf = x.clone().requires_grad_()
        saved = []
        with saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            y = module(leaf)
        y.backward(grad)
        actual = [y.detach(), leaf.grad, *(p.grad for p in module.parameters())]
        module.zero_grad()
        return actual, sorted(saved)

    ours, saved = gradients()
    assert [size for size in saved if size > 1] == [x.numel()]
    with Watching():  # a mode is active: plain operations
        plain, _ = gradients()
    assert _elementwise._uncompilable == set()
    for a, b in zip(ours, plain, strict=True):
        # The sums of the parameters run over 60,000 numbers, and in bfloat16 plain autograd rounds on the way.
        scale = b.abs().max().item() if b.dim() else 60_000**0.5
        torch.testing.assert_close(a, b, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5 * scale)
