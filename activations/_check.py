"""Dtype check shared by the activations."""

import torch
from torch import Tensor
from torch.overrides import has_torch_function_unary

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_floating(x: Tensor, name: str) -> None:
    """Raise ValueError unless `x` is float16, bfloat16, float32 or float64 (or a proxy of torch.fx)."""
    if not has_torch_function_unary(x) and x.dtype not in _TYPES:
        raise ValueError(f"{name} takes real floating-point tensors, found {x.dtype}: convert the input first")
