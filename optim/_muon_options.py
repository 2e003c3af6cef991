"""Muon's options: their values, and checks."""

import math
from collections.abc import Callable
from typing import Any

import torch

from ._common import check_not_negative

ADJUSTMENTS: dict[str | None, Callable[[int, int], float]] = {
    "original": lambda rows, columns: math.sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral_unclamped": lambda rows, columns: math.sqrt(rows / columns),
}
ADJUSTMENTS[None] = ADJUSTMENTS["original"]
METHODS = ("auto", "muon", "adamw", "sgd")
DTYPES = {name: getattr(torch, name) for name in ("bfloat16", "float16", "float32", "float64")}


def check_options(group: dict[str, Any]) -> None:
    """Refuse options of a parameter group that are out of range, or that Muon does not have."""
    check_not_negative(group, "lr", "weight_decay", "rest_lr_factor", "adamw_eps")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum must be in [0, 1), found {group['momentum']}")
    if len(group["ns_coefficients"]) != 3 or not all(map(math.isfinite, group["ns_coefficients"])):
        raise ValueError(f"ns_coefficients must be three finite numbers, found {group['ns_coefficients']}")
    if not 0 < group["eps"] < math.inf:
        raise ValueError(f"eps must be finite and greater than 0, found {group['eps']}")
    if isinstance(group["ns_steps"], bool) or group["ns_steps"] not in range(100):
        raise ValueError(f"ns_steps must be an integer from 0 to 99, found {group['ns_steps']}")
    if group["filter_norm"] is not None and not 0 < group["filter_norm"] < math.inf:
        raise ValueError(f"filter_norm must be None, or finite and greater than 0, found {group['filter_norm']}")
    if len(group["adamw_betas"]) != 2 or not all(0 <= beta < 1 for beta in group["adamw_betas"]):
        raise ValueError(f"adamw_betas must be two numbers in [0, 1), found {group['adamw_betas']}")
    choices: dict[str, Any] = {"method": METHODS, "rest": METHODS[2:], "ns_dtype": DTYPES, "adjust_lr_fn": ADJUSTMENTS}
    for name, known in choices.items():
        if group[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, found {group[name]!r}")
    if group["differentiable"]:
        raise ValueError("differentiable must be False for Muon, found True: LAMB and COCOB have differentiable steps")
    if group["capturable"] and group["foreach"] is not None:
        raise ValueError("capturable and foreach exclude one another: leave foreach at None")
