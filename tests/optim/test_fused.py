"""`fused=True` against the slow twins, for tensors of any shape, strides and dtype."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from optim import COCOB, LAMB, cocob
from optim.reference import SlowCOCOB, SlowLAMB

PAIRS: list[Any] = [pytest.param(LAMB, SlowLAMB, id="LAMB"), pytest.param(COCOB, SlowCOCOB, id="COCOB")]


@pytest.fixture(autouse=True, scope="module")
def _compile_for_small_tensors_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cocob, "SMALL_ELEMENTS", 1)
        yield


def check(
    cls: Callable[..., Optimizer], twin_of: Callable[..., Any], params: list[nn.Parameter], **options: Any
) -> None:
    """Compare three steps with random gradients, some of them missing, with the twins."""
    twins = [twin_of(p) for p in params]
    expected = [p.detach().double() for p in params]
    optimizer = cls(params, **options)
    for step in range(3):
        for i, (p, twin) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.randn(p.shape, dtype=p.dtype) if step == 0 or (step + i) % 3 else None
            expected[i] = expected[i] if p.grad is None else twin.step(p.grad)
        optimizer.step()
    for p, value in zip(params, expected, strict=True):
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-11}[p.dtype]
        torch.testing.assert_close(p.detach().double(), value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_more_shapes_than_dynamo_compiles_for(cls: Callable[..., Optimizer], twin_of: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    shapes = [(3,), (), (0,), (1,), (1, 1), (2, 3), (4, 0, 2), (2, 3, 4), (2, 3, 4, 5), (1, 2, 1, 2, 3), (70, 70)]
    shapes += [(n, 2 * n) for n in range(3, 9)]
    check(cls, twin_of, [nn.Parameter(torch.randn(shape)) for shape in shapes], fused=True)


def test_more_large_shapes_than_dynamo_compiles_for() -> None:
    # COCOB steps small tensors in lists, but each large one alone.
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape)) for shape in [(70000,), (260, 260), (3, 200, 111), (2, 5, 80, 90)]]
    starts, grads = [p.detach().clone() for p in params], [torch.randn(p.shape) for p in params]
    results = []
    for options in ({"fused": True}, {}):
        params = [nn.Parameter(start.clone()) for start in starts]
        optimizer = COCOB(params, **options)
        for _ in range(2):
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            optimizer.step()
        results.append([p.detach() for p in params])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_memory_formats(cls: Callable[..., Optimizer], twin_of: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    params = [
        nn.Parameter(torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)),
        nn.Parameter(torch.randn(6, 5).t()),
        nn.Parameter(torch.randn(5, 12)[:, ::2]),
        nn.Parameter(torch.randn(9)[::2]),
    ]
    assert not any(p.is_contiguous() for p in params)
    check(cls, twin_of, params, fused=True)


@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_capturable(cls: Callable[..., Optimizer], twin_of: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape)) for shape in [(3, 4), (5,), (2, 2, 3)]]
    check(cls, twin_of, params, fused=True, capturable=True)


@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_small_and_large_tensors(
    cls: Callable[..., Optimizer], twin_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cocob, "SMALL_ELEMENTS", 12)
    torch.manual_seed(0)
    shapes = [(3, 5), (2, 2), (40,), (3,), (0, 2), (1,), (3, 4)]
    check(cls, twin_of, [nn.Parameter(torch.randn(shape)) for shape in shapes], fused=True)
    optimizer = LAMB([nn.Parameter(torch.randn(shape)) for shape in shapes], fused=True)
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.randn_like(p)
    plain = LAMB([nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]])
    for p, q in zip(plain.param_groups[0]["params"], optimizer.param_groups[0]["params"], strict=True):
        p.grad = q.grad
    optimizer.step()
    plain.step()
    torch.testing.assert_close(optimizer.trust_ratios(), plain.trust_ratios())


def test_a_step_without_any_exclusion() -> None:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape)) for shape in [(3, 4), (5,), (2,)]]
    check(LAMB, lambda p: SlowLAMB(p, exclude_1d=False), params, fused=True, exclude_1d=False)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=4), st.integers(0, 999))
@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_any_shapes(
    cls: Callable[..., Optimizer], twin_of: Callable[..., Any], shapes: list[tuple[int, ...]], seed: int
) -> None:
    torch.manual_seed(seed)
    check(cls, twin_of, [nn.Parameter(torch.randn(shape)) for shape in shapes], fused=True)


@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_float64(cls: Callable[..., Optimizer], twin_of: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 3)]
    check(cls, twin_of, [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes], fused=True)


LARGE: list[Tensor] = [
    torch.randn(10007, generator=torch.Generator().manual_seed(0)),
    torch.randn(3, 71, 41, generator=torch.Generator().manual_seed(1)),
    torch.randn(16, 20, 6, 5, generator=torch.Generator().manual_seed(2)).contiguous(memory_format=torch.channels_last),
    torch.randn(90, 100, generator=torch.Generator().manual_seed(3)).t(),
    torch.randn(20000, generator=torch.Generator().manual_seed(4))[::2],
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("cls", "twin_of"), PAIRS)
def test_large_tensors(cls: Callable[..., Optimizer], twin_of: Callable[..., Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    check(cls, twin_of, [nn.Parameter(values.to(dtype)) for values in LARGE], fused=True)


@pytest.mark.parametrize("cls", [LAMB, COCOB])
def test_large_bfloat16(cls: Callable[..., Optimizer]) -> None:
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(0)
        params = [nn.Parameter(values.to(torch.bfloat16).to(dtype)) for values in LARGE]
        optimizer = cls(params, fused=True)
        for p in params:
            p.grad = torch.randn(p.shape, dtype=torch.bfloat16).to(dtype)
        optimizer.step()
        results.append([p.detach().float() for p in params])
    torch.testing.assert_close(*results, rtol=1e-2, atol=1e-3)


def test_a_change_of_the_threads_or_of_a_states_dtype() -> None:
    start, threads = LARGE[0], torch.get_num_threads()
    params = [nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [COCOB(params[:1], fused=True), COCOB(params[1:])]
    try:
        for step in range(3):
            torch.set_num_threads(2 if step == 1 else 1)
            for p, optimizer in zip(params, optimizers, strict=True):
                p.grad = torch.cos(start + step)
                optimizer.step()
            state = optimizers[0].state[params[0]]
            state["theta"] = state["theta"].double() if step == 1 else state["theta"]
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*[p.detach() for p in params], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cls", [LAMB, COCOB])
def test_the_versions_of_large_tensors_count(cls: Callable[..., Optimizer]) -> None:
    w = nn.Parameter(LARGE[1].clone())
    optimizer = cls([w], fused=True)
    w.grad = torch.ones_like(w)
    optimizer.step()
    changed = [value for key, value in optimizer.state[w].items() if key != "initial"]
    versions = [t._version for t in (w, *changed)]
    optimizer.step()
    assert all(t._version > version for t, version in zip((w, *changed), versions, strict=True))


@pytest.mark.parametrize("cls", [LAMB, COCOB])
def test_autograd_notices_that_the_weights_have_changed(cls: Callable[..., Optimizer]) -> None:
    w = nn.Parameter(torch.randn(3, 3))
    loss = (w * w).sum()
    w.grad = torch.ones_like(w)
    cls([w], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_a_compiler_the_uncompiled_step_runs_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Callable[..., None]:
        def call(*tensors: Tensor) -> None:
            raise RuntimeError("no working C++ compiler\nand a long explanation")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    cocob._compiled_update.cache_clear()
    torch.manual_seed(0)
    params: list[nn.Parameter] = [nn.Parameter(torch.randn(shape)) for shape in [(3, 4), (90, 100), (5,), (2, 3)]]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check(COCOB, SlowCOCOB, params, fused=True)
            check(COCOB, SlowCOCOB, params, fused=True)
    finally:
        cocob._compiled_update.cache_clear()
    ours = [w for w in caught if "uncompiled" in str(w.message)]
    assert len(ours) == 1
    assert ours[0].category is UserWarning
    assert "(no working C++ compiler)" in str(ours[0].message)


def tensors_on(device: str) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape).to(device)) for shape in [(64, 33), (70,), (8, 3, 3, 3), (), (1,)]]


def weights_after_five_steps(cls: Callable[..., Optimizer], device: str, **options: Any) -> list[Tensor]:
    params = tensors_on(device)
    optimizer = cls(params, **options)
    for _ in range(5):
        for p in params:
            p.grad = torch.randn(p.shape).to(device)
        optimizer.step()
    return [p.detach().cpu() for p in params]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cls", [LAMB, COCOB])
@pytest.mark.parametrize(
    "options",
    [{}, {"foreach": False}, {"capturable": True}, {"fused": True}, {"fused": True, "capturable": True}],
)
def test_cuda_agrees_with_the_cpu(cls: Callable[..., Optimizer], options: dict[str, Any]) -> None:
    torch.testing.assert_close(
        weights_after_five_steps(cls, "cuda", **options), weights_after_five_steps(cls, "cpu"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cls", [LAMB, COCOB])
@pytest.mark.parametrize("fused", [False, True])
def test_a_cuda_graph_captures_the_step(cls: Callable[..., Optimizer], fused: bool) -> None:
    results = []
    for captured in (True, False):
        params = tensors_on("cuda")
        optimizer = cls(params, capturable=True, fused=fused)
        for p in params:
            p.grad = torch.zeros_like(p)

        def step(k: int, replay: Callable[[], Any], params: list[nn.Parameter] = params) -> None:
            for p in params:
                p.grad.copy_(torch.sin(k + p.detach()))  # type: ignore[union-attr]
            replay()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # create the state before the capture
            for k in range(3):
                step(k, optimizer.step)
        torch.cuda.current_stream().wait_stream(stream)
        replay: Callable[[], Any] = optimizer.step
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            replay = graph.replay
        for k in range(3, 8):
            step(k, replay)
        results.append([p.detach().clone() for p in params])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
