"""The Triton kernels: by the interpreter on a CPU, compiled for an H100, and on a GPU."""

import copy
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from optim import COCOB, LAMB, SAM, MovingAverage, Muon, _common, _table
from optim._climb import Climb

pytest.importorskip("triton")

from optim import kernels
from reference import interpreted
from reference.hopper import accesses, recorded

CHECKS = [
    "lamb", "lamb_with_options", "lamb_of_many_steps", "cocob", "narrow_types", "gradients_of_another_layout",
    "groups_that_change", "autograd_notices", "sam", "sam_maximizes", "sam_skips", "moving_average",
]  # fmt: skip
NAMES = ("lamb_moments", "lamb_weights", "cocob", "sam_squares", "sam_climb", "sam_restore", "average")


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    """The errors of all checks of a process in which the kernels are interpreted."""
    return interpreted.errors("interpreted_optimizers.py")


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_interpreted(errors: dict[str, str], check: str) -> None:
    assert list(errors) == CHECKS
    assert errors[check] == "", errors[check]


def gradients(params: list[nn.Parameter]) -> None:
    for p in params:
        p.grad = torch.ones_like(p)


def launch(params: list[nn.Parameter]) -> None:
    """Launch each kernel, LAMB's and SAM's once for each of their forms."""
    LAMB(params).step()
    COCOB(params).step()
    sam = SAM(params, adaptive=True)
    sam.first_step()
    sam.restore()
    MovingAverage(0.9)(params, [p.detach() for p in params])


def test_addresses_are_sent_from_the_host_whatever_the_default_device_is() -> None:
    with torch.device("meta"):
        table = _table.Table([[torch.ones(3, device="cpu")]])
        sent, _, _ = table.gradients([torch.ones(3, device="cpu")])
    assert table.rows.is_cpu
    assert table.items.is_cpu
    assert sent.is_cpu


def test_the_answer_about_a_gradient_is_awaited_on_the_stream_of_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda stream=None: streams.append(stream)))
    climb = Climb.__new__(Climb)
    climb._squared = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 1))  # type: ignore[assignment]
    climb._answer = SimpleNamespace(copy_=lambda *_, non_blocking: None)  # type: ignore[assignment]
    climb.ask()
    assert streams == ["stream of cuda:1"]


def test_an_h100_reads_and_writes_16_bytes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_table, "DEVICES", {"cpu"})
    params = [nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(7))]
    gradients(params)
    with recorded(kernels, *NAMES) as seen:
        launch(params)
    assert [name for name, _ in seen] == list(NAMES)  # two launches a group, or one
    for (name, ptx), tensors in zip(seen, (4, 3, 7, 2, 2, 1, 2), strict=True):
        assert accesses(ptx)["ld.v4.b32"] == 2 * tensors, name  # eight elements for each thread
    narrow = [nn.Parameter(torch.randn(4, 5, dtype=torch.bfloat16))]
    gradients(narrow)
    with recorded(kernels, "lamb_moments", "lamb_weights") as seen:
        LAMB(narrow, lr=torch.tensor(0.1), weight_decay=0, bias_correction=False).step()
    assert [accesses(ptx)["ld.v4.b32"] for _, ptx in seen] == [4, 3]


@pytest.mark.parametrize("missing", ["Triton", "a compiler"])
def test_without_triton_the_step_counts_stay_on_the_cpu(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_table, "DEVICES", {"cpu"})
    p = nn.Parameter(torch.ones(3))
    group = LAMB([p]).param_groups[0]
    assert _common.takes_kernels(group, p)
    if missing == "Triton":
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.delitem(sys.modules, "optim._launches", raising=False)
        monkeypatch.delattr("optim._launches", raising=False)
    else:
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("CC", raising=False)
    _common.launches.cache_clear()
    try:
        assert not _common.takes_kernels(group, p)
    finally:
        _common.launches.cache_clear()


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
FACTORIES: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "LAMB": partial(LAMB, lr=0.05),
    "LAMB-fused": partial(LAMB, lr=0.05, fused=True),
    "LAMB-capturable": partial(LAMB, lr=0.05, capturable=True),
    "COCOB": COCOB,
    "Muon": partial(Muon, lr=0.05, ns_dtype="float32"),
    "SAM": partial(SAM, base_optimizer=torch.optim.SGD, lr=0.05, rho=0.5),
    "ASAM-LAMB": partial(SAM, base_optimizer=LAMB, lr=0.05, rho=0.5, adaptive=True),
}
every = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES.keys())


def parameters(device: str, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    torch.manual_seed(0)
    values = [torch.randn(shape) for shape in [(64, 33), (70,), (8, 3, 3, 3), (), (1,), (0,), (90, 1000), (20001,)]]
    values += [torch.randn(16, 8, 3, 3).contiguous(memory_format=torch.channels_last), torch.randn(5, 12)[:, ::2]]
    return [nn.Parameter(value.to(device, dtype)) for value in values]


def steps(optimizer: Optimizer, params: list[nn.Parameter], number: int) -> None:
    """Step along gradients that depend on the weights and are new tensors at each step."""

    def closure() -> None:
        for p in params:
            p.grad = torch.cos(p.detach()).add_(2)  # near 0, rounding would decide about a step

    for _ in range(number):
        if isinstance(optimizer, SAM):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def names_of_kernels(function: Callable[[], Any]) -> list[str]:
    """Return the names of the kernels and copies that a function launches."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return [name for name in names if "#" not in name]  # torch's mark of a whole step


@pytest.mark.gpu
@on_a_gpu
@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_gpu_agrees_with_the_cpu(make: Callable[..., Optimizer], dtype: torch.dtype) -> None:
    results = []
    for device in ("cuda", "cpu"):
        params = parameters(device, dtype)
        steps(make(params), params, 4)
        results.append([p.detach().cpu() for p in params])
    tolerance = 0.1 if dtype is torch.bfloat16 else 1e-4
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@on_a_gpu
@every
def test_no_step_waits_for_the_gpu(make: Callable[..., Optimizer]) -> None:
    params = parameters("cuda")[:-1]
    optimizer = make(params)
    steps(optimizer, params, 2)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, params, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps(optimizer, params, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@on_a_gpu
def test_launches_of_a_step() -> None:
    params = parameters("cuda")[:-1]
    gradients(params)
    for make, wanted in (
        (LAMB, ["lamb_moments", "lamb_weights"]),
        (COCOB, ["cocob"]),
    ):
        optimizer: Any = make(params)
        optimizer.step()
        assert names_of_kernels(optimizer.step) == wanted
    sam = SAM(params)
    sam.first_step()
    sam.restore()
    assert names_of_kernels(lambda: sam.first_step(wait=False))[:2] == ["sam_squares", "sam_climb"]
    assert names_of_kernels(sam.restore) == ["sam_restore"]
    average, averages = MovingAverage(0.9), [p.detach().clone() for p in params]
    average(averages, params)
    assert names_of_kernels(lambda: average(averages, params)) == ["average"]


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("make", [LAMB, COCOB])
@pytest.mark.parametrize("kept", [True, False], ids=["same gradients", "gradients of the graph"])
def test_a_graph_captures_steps(make: Callable[..., Optimizer], kept: bool) -> None:
    results = []
    for captured in (True, False):
        params = parameters("cuda")[:-1]
        optimizer = make(params, capturable=True)

        def step(params: Any = params, optimizer: Any = optimizer) -> None:
            for p in params:
                grad = torch.sin(p.detach())
                if kept and p.grad is not None:
                    p.grad.copy_(grad)
                else:
                    p.grad = grad
            optimizer.step()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
            step()
        torch.cuda.current_stream().wait_stream(stream)
        replay: Callable[[], Any] = step
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            replay = graph.replay
        for k in range(4):
            if k == 2 and not kept:  # an eager step in between, with gradients elsewhere
                step()
            else:
                replay()
        results.append([p.detach().clone() for p in params])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@on_a_gpu
def test_loaded_step_counts_are_where_they_belong() -> None:
    for saved_on in ("cpu", "cuda"):
        for options, place in (({}, "cuda"), ({"foreach": True}, "cpu"), ({"capturable": True}, "cuda")):
            params = parameters("cuda")[:3]
            gradients(params)
            optimizer = LAMB(params, **options)
            optimizer.step()
            saved = optimizer.state_dict()
            for state in saved["state"].values():
                state["step"] = state["step"].to(saved_on)
            other = LAMB(params, **options)
            other.load_state_dict(saved)
            other.step()
            assert {(state["step"].device.type, state["step"].item()) for state in other.state.values()} == {
                (place, 2.0)
            }
