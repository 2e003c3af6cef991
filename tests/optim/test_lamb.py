from typing import Any

import pytest
import timm.optim
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from optim import LAMB
from optim.reference import SlowLAMB


def filled(shape: tuple[int, ...], value: float) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, value, dtype=torch.float64))


def test_the_first_step_moves_by_the_rate_times_the_norm() -> None:
    # Without decay r = g / (|g| + eps) is the sign of g, so that each element moves by lr |w| / sqrt(n).
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    before, w.grad = w.detach().clone(), torch.randn(3, 4, dtype=torch.float64)
    optimizer = LAMB([w], lr=0.1, eps=0.0, weight_decay=0.0)
    optimizer.step()
    torch.testing.assert_close(w.detach(), before - 0.1 * before.norm() / 12**0.5 * w.grad.sign())
    torch.testing.assert_close(optimizer.trust_ratios(), (before.norm() / 12**0.5)[None].float())


def test_the_first_step_without_bias_correction() -> None:
    # m = 0.1 g and v = 0.001 g², so that r = sign(g) * 0.1 / sqrt(0.001): the ratio cancels the factor, ...
    w, bias = filled((2, 2), 1.0), filled((2,), 1.0)
    w.grad, bias.grad = torch.ones_like(w), torch.ones_like(bias)
    LAMB([w, bias], lr=0.1, eps=0.0, weight_decay=0.0, bias_correction=False).step()
    torch.testing.assert_close(w.detach(), torch.full_like(w, 0.9))
    # ... but a bias, which has no ratio, keeps it.
    torch.testing.assert_close(bias.detach(), torch.full_like(bias, 1 - 0.1 * 0.1 / 0.001**0.5))


def test_weight_decay_is_inside_the_norm() -> None:
    w = filled((2, 2), 1.0)
    w.grad = torch.ones_like(w)
    optimizer = LAMB([w], lr=0.1, eps=0.0, weight_decay=3.0)
    optimizer.step()
    # r + lambda w is 4 everywhere, of norm 8; |w| is 2.
    torch.testing.assert_close(optimizer.trust_ratios(), torch.tensor([0.25]))
    torch.testing.assert_close(w.detach(), torch.full_like(w, 0.9))


@pytest.mark.parametrize(("bounds", "ratio"), [(None, 5.0), ((0.0, 4.0), 2.0), ((20.0, 30.0), 10.0)])
def test_bounds_of_phi(bounds: tuple[float, float] | None, ratio: float) -> None:
    w = filled((2, 2), 5.0)
    w.grad = torch.ones_like(w)
    optimizer = LAMB([w], eps=0.0, weight_decay=0.0, norm_bounds=bounds)
    optimizer.step()
    torch.testing.assert_close(optimizer.trust_ratios(), torch.tensor([ratio]))


@pytest.mark.parametrize(("value", "grad"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"norm_bounds": (1.0, 2.0)}])
def test_the_ratio_is_one_where_a_norm_is_zero(value: float, grad: float, options: dict[str, Any]) -> None:
    w = filled((2, 2), value)
    w.grad = torch.full_like(w, grad)
    optimizer = LAMB([w], lr=0.1, weight_decay=0.0, eps=1e-12, **options)
    optimizer.step()
    assert optimizer.trust_ratios().tolist() == [1.0]
    torch.testing.assert_close(w.detach(), torch.full_like(w, value - 0.1 * grad))


def test_excluded_tensors_take_adams_step() -> None:
    torch.manual_seed(0)
    bias = nn.Parameter(torch.randn(5, dtype=torch.float64))
    scalar = nn.Parameter(torch.randn((), dtype=torch.float64))
    twins = [nn.Parameter(p.detach().clone()) for p in (bias, scalar)]
    ours = LAMB([bias, scalar], lr=0.01, weight_decay=0.5)
    adam = torch.optim.Adam(twins, lr=0.01, eps=1e-6)
    for _ in range(5):
        for p, twin in zip((bias, scalar), twins, strict=True):
            p.grad = twin.grad = torch.randn_like(p)
        ours.step()
        adam.step()
    torch.testing.assert_close([bias, scalar], twins)
    assert ours.trust_ratios().shape == (0,)


def test_trust_ratios_are_in_the_order_of_the_groups() -> None:
    a, bias, b, unused = filled((2, 2), 3.0), filled((3,), 1.0), filled((2, 2), 1.0), filled((2, 2), 1.0)
    c = nn.Parameter(torch.full((2, 2), 2.0))  # in float32, so that it is stepped separately
    for p in (a, bias, b, c):
        p.grad = torch.ones_like(p)
    optimizer = LAMB([{"params": [a, bias, c, unused]}, {"params": [b]}], eps=0.0, weight_decay=0.0)
    assert optimizer.trust_ratios().shape == (0,)
    optimizer.step()
    torch.testing.assert_close(optimizer.trust_ratios(), torch.tensor([3.0, 2.0, 1.0]))


def test_gradients_are_neither_clipped_nor_changed() -> None:
    w = filled((2, 2), 1.0)
    grad = torch.tensor([[1e6, -1e6], [3.0, 0.0]], dtype=torch.float64)
    w.grad = grad.clone()
    LAMB([w], maximize=True).step()
    assert torch.equal(w.grad, grad)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}])
def test_agrees_with_timm(weight_decay: float, bias_correction: bool, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in [(3, 4), (2, 3, 4, 5), (7, 1)]]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    common: dict[str, Any] = {
        "lr": 0.02,
        "betas": (0.8, 0.95),
        "eps": 1e-4,
        "weight_decay": weight_decay,
        "bias_correction": bias_correction,
    }
    optimizer = LAMB(ours, exclude_1d=False, **common, **options)
    peer = timm.optim.Lamb(theirs, max_grad_norm=None, always_adapt=True, **common)
    for _ in range(10):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = q.grad = torch.randn_like(p)
        optimizer.step()
        peer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_a_learning_rate_that_is_a_tensor() -> None:
    results = []
    rates: list[tuple[float | Tensor, bool]] = [(0.1, False), (torch.tensor(0.1), False), (torch.tensor(0.1), True)]
    for lr, capturable in rates:
        w = filled((2, 2), 1.0)
        w.grad = torch.ones_like(w)
        LAMB([w], lr=lr, capturable=capturable).step()
        results.append(w.detach())
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_gradients_through_a_zero_tensor_are_finite() -> None:
    grad = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    w = torch.zeros(2, 2, dtype=torch.float64)
    optimizer = LAMB([w], differentiable=True)
    w.grad = grad * 1
    optimizer.step()
    (slope,) = torch.autograd.grad(w.sum(), grad)
    assert torch.isfinite(slope).all()


shapes = st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=5)


def strided(shape: tuple[int, ...], layout: str) -> Tensor:
    """A random tensor whose strides are not those of its shape."""
    if layout == "transposed":
        return torch.randn(shape[::-1], dtype=torch.float64).permute(list(reversed(range(len(shape)))))
    if layout == "every second" and shape:
        return torch.randn((*shape[:-1], 2 * shape[-1]), dtype=torch.float64)[..., ::2]
    result = torch.randn(shape, dtype=torch.float64)
    return (
        result.contiguous(memory_format=torch.channels_last)
        if layout == "channels_last" and len(shape) == 4
        else result
    )


layouts = st.sampled_from(["contiguous", "transposed", "every second", "channels_last"])


@settings(max_examples=40, deadline=None)
@given(shapes, layouts, layouts, st.randoms(use_true_random=False), st.booleans())
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}])
def test_any_shapes_and_strides(
    options: dict[str, Any], shapes: list[tuple[int, ...]], layout: str, grad_layout: str, random: Any, exclude: bool
) -> None:
    torch.manual_seed(random.randrange(1000))
    params = [nn.Parameter(strided(shape, layout)) for shape in shapes]
    twins = [SlowLAMB(p, lr=0.1, exclude_1d=exclude) for p in params]
    optimizer = LAMB(params, lr=0.1, exclude_1d=exclude, **options)
    for _ in range(3):
        ratios = []
        for p, twin in zip(params, twins, strict=True):
            p.grad = strided(tuple(p.shape), grad_layout) if random.random() < 0.7 else None
            if p.grad is not None:
                twin.step(p.grad)
                ratios += [twin.ratio] if twin.adapt else []
        optimizer.step()
        torch.testing.assert_close(optimizer.trust_ratios(), torch.tensor(ratios), rtol=1e-5, atol=0)
    for p, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(p.detach(), twin.w, rtol=1e-10, atol=1e-12)


@pytest.fixture
def mesh(tmp_path: Any) -> Any:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"capturable": True}, {"fused": True}])
def test_dtensors(mesh: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in [(4, 3), (5,), (2, 2)]]
    placements = [Shard(0), Shard(0), Replicate()]
    sharded = [
        nn.Parameter(distribute_tensor(p.detach().clone(), mesh, [placement]))
        for p, placement in zip(plain, placements, strict=True)
    ]
    twins = [SlowLAMB(p) for p in plain]
    optimizer = LAMB(sharded, **options)
    for _ in range(3):
        for p, twin in zip(sharded, twins, strict=True):
            grad = torch.randn(p.shape, dtype=torch.float64)
            p.grad = distribute_tensor(grad, mesh, [Shard(0)])
            twin.step(grad)
        optimizer.step()
    for p, twin in zip(sharded, twins, strict=True):
        assert isinstance(p, DTensor)
        torch.testing.assert_close(p.full_tensor().detach(), twin.w)
    torch.testing.assert_close(optimizer.trust_ratios(), torch.tensor([twins[0].ratio, twins[2].ratio]))


@pytest.mark.parametrize("options", [{}, {"fused": True}])
def test_norms_of_large_tensors_are_exact(options: dict[str, Any]) -> None:
    # Summed in few float32 accumulators, the squares would already be too small by a relative 7e-5.
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.rand(2**11, 2**11, generator=generator))
    w.grad = torch.rand(w.shape, generator=generator)
    twin = SlowLAMB(w)
    twin.step(w.grad)
    optimizer = LAMB([w], **options)
    optimizer.step()
    assert optimizer.trust_ratios().item() == pytest.approx(twin.ratio, rel=3e-6)


@pytest.mark.parametrize("lr", [torch.tensor([0.1, 0.2]), torch.zeros(0), torch.ones(2, 2)])
def test_a_rate_of_several_elements_is_refused_in_one_line(lr):
    with pytest.raises(ValueError, match="lr must be a number or a tensor of one element, found a tensor of shape"):
        LAMB([torch.nn.Parameter(torch.ones(3))], lr=lr)
