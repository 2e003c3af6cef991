"""The Triton kernels: by the interpreter on a CPU, and compiled for an H100; `test_gpu.py` runs them."""

import pytest
import torch

from activations import SPOCU, _elementwise
from activations.functional import hardshrink, spocu
from reference import interpreted

pytest.importorskip("triton")

from activations import _kernels, _trained_kernels
from reference.hopper import accesses, recorded

CHECKS = ["fixed", "special_values", "trained"]


@pytest.fixture(scope="module")
def errors():
    return interpreted.errors("interpreted_activations.py")


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_interpreted(errors, check):
    assert list(errors) == CHECKS
    assert errors[check] == "", errors[check]


def test_an_h100_reads_and_writes_16_bytes_at_a_time(monkeypatch):
    monkeypatch.setattr(_elementwise, "_KERNEL_DEVICES", {"cpu"})
    x = torch.ones(5, dtype=torch.bfloat16, requires_grad=True)
    with (
        recorded(_kernels, "spocu", "hardshrink") as fixed,
        recorded(_trained_kernels, "forward", "backward", "parameters") as trained,
    ):
        for function in (spocu, hardshrink, SPOCU(trainable=True)):
            function(x).backward(torch.ones(5, dtype=torch.bfloat16))
    assert [name for name, _ in fixed] == ["spocu", "spocu", "hardshrink", "hardshrink"]  # one launch each way
    assert [name for name, _ in trained] == ["forward", "backward", "parameters"]
    for (name, ptx), tensors in zip(fixed + trained[:2], (1, 2, 1, 2, 1, 2), strict=True):
        found = accesses(ptx)
        assert (found["ld.v4.b32"], found["st.v4.b32"]) == (2 * tensors, 2), name


class Kinds:
    """Stands for a kernel, and keeps for what kinds of arguments it would be compiled."""

    def __init__(self):
        self.seen = set()

    def __getitem__(self, grid):
        return self

    def __call__(self, *args, **keywords):
        tensors = [(arg.dtype, arg.data_ptr() % 16) for arg in args if isinstance(arg, torch.Tensor)]
        self.seen.add((tuple(tensors), keywords["PULL"], keywords["num_warps"]))


@pytest.mark.parametrize("function", ["spocu", "hardshrink"])
def test_a_type_is_compiled_once_each_way_for_any_shape_and_layout(function, monkeypatch):
    monkeypatch.setattr(_elementwise, "_KERNEL_DEVICES", {"cpu"})
    assert type(getattr(_kernels, function)).__name__ == "JITFunction"  # nothing is tuned
    kinds = Kinds()
    monkeypatch.setattr(_kernels, function, kinds)
    for shape in ((4, 16, 8, 8), (3, 5, 7, 9), (1,), (2, 64)):
        for layout in (torch.contiguous_format, torch.channels_last)[: 1 + (len(shape) == 4)]:
            for dtype in (torch.bfloat16, torch.float32):
                x = torch.ones(shape, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
                y = {"spocu": spocu, "hardshrink": hardshrink}[function](x)
                y.backward(torch.ones(shape, dtype=dtype))
    assert len({(tensors, pull) for tensors, pull, _ in kinds.seen}) == 4  # two types, two ways


def test_without_triton(monkeypatch):
    monkeypatch.setattr(_elementwise, "_KERNEL_DEVICES", {"cpu"})
    monkeypatch.setattr(_elementwise, "_kernels", lambda: None)
    x = torch.linspace(-3, 3, 100)
    monkeypatch.setattr(_kernels, "launch", lambda *_: pytest.fail("launched"))
    assert spocu(x).isfinite().all()
