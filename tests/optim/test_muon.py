"""Muon against torch's Muon, SGD and AdamW, and against its slow twin."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils._python_dispatch import TorchDispatchMode

from optim import SAM, Muon
from optim.reference import SlowMuon

SHAPES = [(8, 3, 3, 3), (5, 7), (7, 5), (5, 7), (16, 2, 3), (6,), (), (1, 1), (4, 1, 5, 5), (3, 2, 2, 2, 2)]


def parameters(shapes: Any = SHAPES, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64).to(dtype)) for shape in shapes]


def step(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"foreach": False},
        {"foreach": True},
        {"capturable": True, "lr": torch.tensor(0.01, dtype=torch.float64)},
        {"nesterov": False, "ns_steps": 1, "adjust_lr_fn": "match_rms_adamw"},
        {"adjust_lr_fn": "spectral_unclamped", "ns_steps": 0, "momentum": 0.0},
        {"filter_norm": 1.5, "weight_decay": 0.0},
        {"rest": "sgd", "rest_lr_factor": 0.3, "maximize": True},
        {"rest": "sgd", "nesterov": False, "capturable": True, "lr": torch.tensor(0.01, dtype=torch.float64)},
        {"method": "adamw", "adamw_betas": (0.5, 0.9), "adamw_eps": 1e-3},
        {"method": "sgd"},
    ],
)
def test_follows_the_twin(options: dict[str, Any]) -> None:
    options = {"lr": 0.01, **options}
    params = parameters()
    of_twin = {name: value for name, value in options.items() if name not in ("foreach", "capturable")}
    twins = [SlowMuon(p, **of_twin | {"lr": float(options["lr"])}) for p in params]
    optimizer = Muon(params, ns_dtype="float64", **options)
    for _ in range(4):
        for p in params:
            p.grad = torch.randn_like(p)
        expected = [twin.step(p.grad) for p, twin in zip(params, twins, strict=True) if p.grad is not None]
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in params], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False, "momentum": 0.6, "ns_steps": 3}, {"adjust_lr_fn": "match_rms_adamw"}]
)
def test_is_torchs_muon_on_matrices(dtype: torch.dtype, options: dict[str, Any]) -> None:
    shapes = [(5, 7), (7, 5), (64, 100), (1, 9), (5, 7)]
    ours, theirs = parameters(shapes, dtype), parameters(shapes, dtype)
    results = step(Muon(ours, lr=0.02, **options), ours), step(torch.optim.Muon(theirs, lr=0.02, **options), theirs)
    # Batched matrix products may round otherwise, which they do on CPUs with torch 2.11: a unit of bfloat16 or two.
    rtol, atol = (0.016, 0.016) if dtype is torch.bfloat16 else (0.0, 2e-3)
    torch.testing.assert_close(*results, rtol=rtol, atol=atol)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rest_is_torchs_adamw_or_sgd(nesterov: bool, dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype=dtype), parameters(dtype=dtype)
    adamw = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1, fused=True)
    assert all(map(torch.equal, step(Muon(ours, lr=0.01, method="adamw"), ours), step(adamw, theirs)))
    ours, theirs = parameters(dtype=dtype), parameters(dtype=dtype)
    sgd = torch.optim.SGD(theirs, lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=nesterov)
    muon = Muon(ours, lr=0.1, momentum=0.9, nesterov=nesterov, method="sgd", rest_lr_factor=0.1)
    torch.testing.assert_close(step(muon, ours), step(sgd, theirs))


def test_one_object_chooses_by_shape_and_a_group_may_choose_otherwise() -> None:
    first, second, bias, head, empty = parameters([(4, 3, 3, 3), (4, 6), (4,), (2, 4), (0, 3)], torch.float32)
    optimizer = Muon([{"params": [first, second, bias, empty]}, {"params": [head], "method": "sgd"}])
    step(optimizer, [first, second, bias, head, empty], 1)
    names = [set(optimizer.state[p]) for p in (first, second, bias, head, empty)]
    adamw = {"exp_avg", "exp_avg_sq", "step"}
    assert names == [{"momentum_buffer"}, {"momentum_buffer"}, adamw, {"momentum_buffer"}, adamw]
    optimizer.param_groups[1]["method"] = "adamw"  # what it needs is added
    step(optimizer, [head], 1)
    assert set(optimizer.state[head]) == {"momentum_buffer", *adamw}


def test_an_update_has_singular_values_around_one() -> None:
    (p,) = parameters([(8, 3, 3, 3)], torch.float32)
    before = p.detach().clone()
    step(Muon([p], lr=1.0, weight_decay=0.0), [p], 1)
    values = torch.linalg.svdvals((before - p.detach()).reshape(8, -1))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_memory_formats_and_strides_change_nothing() -> None:
    plain = parameters([(8, 3, 3, 3), (6, 5), (5, 6), (9,)])
    strided = [
        nn.Parameter(plain[0].detach().to(memory_format=torch.channels_last)),
        nn.Parameter(plain[1].detach().t().contiguous().t()),
        nn.Parameter(plain[2].detach().repeat_interleave(2, 1)[:, ::2]),
        nn.Parameter(plain[3].detach().repeat_interleave(2)[::2]),
    ]
    assert not any(p.is_contiguous() for p in strided)
    make = partial(Muon, ns_dtype="float64", filter_norm=1.0)
    torch.testing.assert_close(step(make(plain), plain), step(make(strided), strided), rtol=1e-12, atol=1e-12)
    assert strided[0].is_contiguous(memory_format=torch.channels_last)


def test_a_norm_is_set_before_the_update() -> None:
    params = parameters([(16, 3, 3, 3), (8, 4), (8,)], torch.float32)
    bias = params[2].detach().clone()
    optimizer = Muon(params, lr=0.0, filter_norm=0.5)
    step(optimizer, params, 1)
    assert [p.norm().item() for p in params[:2]] == pytest.approx([0.5 * 4, 0.5 * 8**0.5])
    assert torch.equal(params[2], bias)
    zero = nn.Parameter(torch.zeros(2, 3))
    assert step(Muon([zero], lr=0.0, filter_norm=1.0), [zero], 1)[0].eq(0).all()


def test_a_gradient_of_zeros_moves_nothing() -> None:
    p = nn.Parameter(torch.ones(3, 4))
    p.grad = torch.zeros(3, 4)
    Muon([p], weight_decay=0.0).step()
    assert torch.equal(p, torch.ones(3, 4))


class Counting(TorchDispatchMode):
    """Counts the calls of each operator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        self.calls[name] = self.calls.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rest", ["adamw", "sgd"])
def test_filters_of_one_shape_take_their_steps_together_and_nothing_is_read(rest: Any) -> None:
    params = parameters([(4, 3, 3, 3)] * 6 + [(4,)] * 6, torch.float32)
    optimizer = Muon(params, lr=torch.tensor(0.1), capturable=True, rest=rest, filter_norm=1.0)
    step(optimizer, params, 1)
    with Counting() as counting:
        optimizer.step()
    assert counting.calls["baddbmm"] == 2 * 5
    assert counting.calls["bmm"] == 5
    assert not {"_local_scalar_dense", "item", "is_nonzero", "nonzero"} & set(counting.calls)
    alone = Muon(parameters([(4, 3, 3, 3)] * 6), foreach=False)
    with Counting() as counting:
        step(alone, alone.param_groups[0]["params"], 1)
    assert counting.calls["bmm"] == 30


def test_loaded_step_counts_go_where_they_belong() -> None:
    (p,) = parameters([(3,)], torch.float32)
    optimizer = Muon([p], foreach=False)
    step(optimizer, [p], 2)
    saved = copy.deepcopy(optimizer.state_dict())
    meta = nn.Parameter(torch.empty(3, device="meta"))
    loaded = Muon([meta], capturable=True)
    loaded.load_state_dict(saved)
    loaded.param_groups[0]["capturable"] = True
    loaded._keep(loaded.param_groups[0], meta, "step")
    assert loaded.state[meta]["step"].device.type == "meta"
    assert saved["state"][0]["step"] == 2


def test_a_cycle_of_the_momentum_is_muons() -> None:
    params = parameters([(3, 4), (3,)], torch.float32)
    optimizer = Muon(params, lr=0.1)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=4, base_momentum=0.5, max_momentum=0.8)
    step(optimizer, params, 1)
    scheduler.step()
    assert optimizer.param_groups[0]["momentum"] < 0.8
    assert optimizer.param_groups[0]["adamw_betas"] == (0.9, 0.999)


def test_sam_perturbs_and_muon_steps() -> None:
    layer = nn.Conv2d(3, 4, 3)
    optimizer = SAM(layer.parameters(), Muon, rho=0.1, lr=0.1, weight_decay=0.0)
    before = layer.weight.detach().clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = layer(torch.ones(2, 3, 5, 5)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    moved = torch.linalg.svdvals((layer.weight.detach() - before).reshape(4, -1))[0]
    assert 0.05 < moved < 0.13
