"""A network as it was before training."""

import copy
from typing import Any

import torch
from torch import nn


def reinitialised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with weights as before training.

    Modules that have ``reset_parameters`` are reset by it. The values of all other parameters (position embeddings, a
    class token) are shuffled, which keeps their distribution.

    Args:
        model: Any network; a Lightning module's trainer is not copied.
        seed: Of the weights; the global random state is left as it is.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name in ("_trainer", "_fabric"):
            reference = module.__dict__.get(name)
            if reference is not None:
                memo[id(reference)] = None
    first = next(model.parameters(), None)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        other = copy.deepcopy(model, memo).cpu()  # where all draws are those of one generator
        torch.default_generator.manual_seed(seed)
        for module in other.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other if first is None else other.to(first.device)
