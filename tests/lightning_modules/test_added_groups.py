"""A schedule that covers a group that came later continues as one that had the group from the beginning."""

import functools
import warnings

import pytest
import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as torch_schedulers

from lightning_modules import Schedule
from lightning_modules.added_groups import cover


def sequential(optimizer):
    warmup = torch_schedulers.LinearLR(optimizer, 0.1, total_iters=3)
    return torch_schedulers.SequentialLR(optimizer, [warmup, torch_schedulers.CosineAnnealingLR(optimizer, 9)], [3])


def chained(optimizer):
    parts = [torch_schedulers.LinearLR(optimizer, 0.1, total_iters=3), torch_schedulers.ExponentialLR(optimizer, 0.9)]
    return torch_schedulers.ChainedScheduler(parts)


def partial(name, **options):
    return functools.partial(getattr(torch_schedulers, name), **options)


SCHEDULES = {
    "LambdaLR": partial("LambdaLR", lr_lambda=lambda step: 1 / (1 + step)),
    "MultiplicativeLR": partial("MultiplicativeLR", lr_lambda=lambda _: 0.9),
    "StepLR": partial("StepLR", step_size=3, gamma=0.5),
    "CosineAnnealingLR": partial("CosineAnnealingLR", T_max=12),
    "CosineAnnealingWarmRestarts": partial("CosineAnnealingWarmRestarts", T_0=4),
    "PolynomialLR": partial("PolynomialLR", total_iters=10),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
    "Schedule": lambda optimizer: Schedule(optimizer, "warmup 3 steps, cosine", total_steps=12),
}


@pytest.mark.filterwarnings("ignore:.*To get the last learning rate:UserWarning")
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_a_group_that_is_added_has_the_rates_of_one_that_was_there(make):
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    whole = SGD([{"params": first.parameters()}, {"params": second.parameters(), "lr": 0.01}], lr=0.1)
    late = SGD(first.parameters(), lr=0.1)
    schedules = [make(whole), make(late)]
    for step in range(10):
        if step == 4:
            late.add_param_group({"params": second.parameters(), "lr": late.param_groups[0]["lr"] / 10})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimizer has not stepped
            cover(schedules[1])
            for schedule in schedules:
                schedule.step()
    assert [group["lr"] for group in late.param_groups] == pytest.approx([group["lr"] for group in whole.param_groups])


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_cycles_cover_it_too_with_their_momentum(name):
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    optimizer = SGD(first.parameters(), lr=0.1, momentum=0.9)
    options = {"OneCycleLR": {"total_steps": 12}, "CyclicLR": {"base_lr": 0.01, "step_size_up": 3}}[name]
    schedule = getattr(torch_schedulers, name)(optimizer, max_lr=0.1, **options)
    for step in range(10):
        if step == 4:
            optimizer.add_param_group({"params": second.parameters(), "lr": optimizer.param_groups[0]["lr"] / 10})
            cover(schedule)
        optimizer.step()
        schedule.step()
    one, other = optimizer.param_groups
    assert other["lr"] == pytest.approx(one["lr"] / 10)
    assert other["momentum"] == one["momentum"]
