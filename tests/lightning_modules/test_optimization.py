"""The optimizer's way on a GPU, with tensors that only say that they are there."""

import functools

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.optim import SGD, Adam, AdamW, RMSprop

from lightning_modules.optimization import build_optimizer
from optim import SAM


def groups(make, device="cuda"):
    with FakeTensorMode():
        module = nn.ParameterList([nn.Parameter(torch.empty(3, 2, device=device))])
        return build_optimizer(make, module, no_decay_on_1d=False).param_groups


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, functools.partial(SAM, base_optimizer=SGD, lr=0.1)])
def test_torchs_optimizers_are_fused_on_cuda_only(make):
    assert [group["fused"] for group in groups(make)] == [True]
    assert [group["fused"] for group in groups(make, "cpu")] == [None]


@pytest.mark.parametrize("chosen", [{"fused": False}, {"foreach": True}, {"foreach": False}])
def test_the_users_choice_stays(chosen):
    (group,) = groups(functools.partial(AdamW, **chosen))
    assert {name: group[name] for name in chosen} == chosen
    assert not group["fused"]


def test_others_are_left_alone():
    assert "fused" not in groups(RMSprop)[0]
