"""`torch.cuda.make_graphed_callables` on a CPU, with static memory as on a GPU, so that mistakes with it show."""

from typing import Any

import torch
from torch import Tensor, nn


def make_graphed_callables(
    module: nn.Module, sample_args: tuple[Tensor, ...], num_warmup_iters: int = 3, allow_unused_input: bool = False
) -> nn.Module:
    """Warm up, and replace the module's `forward` by one whose inputs, outputs and gradients have fixed places.

    A replay overwrites the output and the gradients of the last one, and a backward pass belongs to the last forward
    pass, as in torch's own.
    """
    kind = sample_args[0].device.type
    assert not (torch.is_autocast_enabled(kind) and torch.is_autocast_cache_enabled())
    params, forward, (static_input,) = tuple(module.parameters()), module.forward, sample_args
    trained = tuple(p for p in params if p.requires_grad)
    for _ in range(num_warmup_iters + 1):
        output = forward(static_input)
        found = torch.autograd.grad(output, trained, torch.ones_like(output), allow_unused=allow_unused_input)
    static_output, last = output.detach().clone(), [output]
    static_grads = {p: None if g is None else g.clone() for p, g in zip(trained, found, strict=True)}

    class Graphed(torch.autograd.Function):
        """The replays."""

        @staticmethod
        def forward(ctx: Any, images: Tensor, *_: Tensor) -> Tensor:
            static_input.copy_(images)
            with torch.enable_grad():
                last[0] = forward(static_input)
            return static_output.copy_(last[0].detach()).detach()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            grads = torch.autograd.grad(last[0], trained, grad, allow_unused=True, retain_graph=True)
            for p, g in zip(trained, grads, strict=True):
                if g is not None:
                    static_grads[p].copy_(g)
            of_params = [static_grads.get(p) for p in params]
            return None, *(None if g is None else g.detach() for g in of_params)

    module.forward = lambda images: Graphed.apply(images, *params)
    return module
