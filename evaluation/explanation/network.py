"""Running a network in order to explain it, and the names of its scores."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import Array, as_tensor
from .compiled import is_compiled, original

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Network:
    """A network within `eval_mode`.

    Attributes:
        module: The module, without a wrapper for several processes or for compilation.
        device: The device of its parameters.
        dtype: float32 or float64, the dtype of the computation.
        call: Maps inputs to the module's output.
    """

    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    call: Callable[[Tensor], Tensor]

    def place(self, values: Array) -> Tensor:
        """Return finite values on the network's device and in its dtype, or raise a ValueError."""
        tensor = as_tensor(values)
        if tensor.is_complex():
            raise ValueError(f"the input must hold real numbers, found {tensor.dtype}")
        placed = tensor.to(self.device, self.dtype)
        placed = placed.clone() if placed.is_inference() else placed  # inference tensors have no gradient
        if not bool(placed.isfinite().all()):
            raise ValueError("the input must be finite, found NaN or inf")
        return placed

    def scores(self, inputs: Tensor) -> Tensor:
        """Return the outputs `[N, K]` (`[N, 1]` for a network that returns `[N]`), or raise a ValueError."""
        output = self.call(inputs.clone())  # the first layer may overwrite its input
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            raise ValueError(f"the network must return a tensor of scores [N, K], found {kind}: wrap it")
        if output.ndim == 1 and len(output) == len(inputs):
            output = output[:, None]
        if output.ndim != 2 or len(output) != len(inputs) or output.shape[1] == 0:
            shapes = f"{list(output.shape)} for inputs {list(inputs.shape)}"
            raise ValueError(f"the network must return scores [N, K], found {shapes}")
        return output


@contextmanager
def eval_mode(model: nn.Module, fixed: Sequence[Any] = ()) -> Iterator[Network]:
    """Yield a network in evaluation mode with gradients, and restore it afterwards.

    Within the block gradients can be computed in any mode of the caller (`no_grad`, `inference_mode`), autocast is off,
    and compiled networks run eagerly, since compiled code skips hooks. A network in float16 or bfloat16 is evaluated in
    float32 with the same weights: bfloat16 has too few mantissa bits to accumulate gradients. Afterwards each module is
    in its former mode; parameters, their `grad` and buffers are untouched as long as gradients are computed by
    `torch.autograd.grad`. A scripted or traced network, and one that needs more inputs, is a ValueError.

    Args:
        model: The network.
        fixed: Arguments of the network after its first input.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Dropout())
        >>> with eval_mode(net) as network:
        ...     scores = network.scores(network.place([[1.0, 2.0]]))
        >>> scores.shape, net.training
        (torch.Size([1, 3]), True)
    """
    module = unwrapped(model)
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("hooks do not work on scripted or traced modules: explain the original module")
    check_inputs(module, 1 + len(fixed))
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    first = next((tensor for tensor in tensors.values() if tensor.is_floating_point()), torch.zeros(0))
    device, dtype = first.device, torch.float64 if first.dtype == torch.float64 else torch.float32
    modes = {part: part.training for part in module.modules()}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if any(is_compiled(part) for part in modes):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        rest = tuple(one.to(device) if isinstance(one, Tensor) else one for one in fixed)

        def call(inputs: Tensor) -> Tensor:
            output: Tensor = module(inputs, *rest)
            return output

        if any(tensor.dtype in _HALF or tensor.is_inference() for tensor in tensors.values()):
            copies = {name: _differentiable(tensor) for name, tensor in tensors.items()}

            def call(inputs: Tensor) -> Tensor:
                return torch.func.functional_call(module, copies, (inputs, *rest))

        try:
            module.eval()
            yield Network(module, device, dtype, call)
        finally:
            for part, training in modes.items():
                part.training = training


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a module without a wrapper for several processes or for compilation."""
    module = model.module if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) else model
    return original(module)


def check_inputs(module: nn.Module, given: int = 1) -> None:
    """Refuse a network whose `forward` needs more inputs than are given."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # of a callable without a signature
        return
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(needed) > given:
        inputs = ", ".join(needed)
        raise ValueError(
            f"expected a network of {given} input{'s' * (given > 1)}, found {type(module).__name__}.forward({inputs}): "
            "explain all inputs by integrated_gradients(model, (input, ...)), or the first one with the others fixed, "
            "fixed=(value, ...)"
        )


def _differentiable(tensor: Tensor) -> Tensor:
    """Return a parameter or buffer in a form through which gradients can be computed."""
    values = tensor.detach()
    values = values.clone() if values.is_inference() else values
    return values.float() if values.dtype in _HALF else values


def display_names(count: int, target_names: Sequence[Any] | Mapping[Any, Any] | None, is_regression: bool) -> list[Any]:
    """Return the names of `count` scores: the given ones, or their indices (`"y"` for the only one of a regression).

    Example:
        >>> display_names(3, {1: "dog"}, is_regression=False)
        [0, 'dog', 2]
    """
    if target_names is None:
        return ["y"] if is_regression and count == 1 else list(range(count))
    if isinstance(target_names, Mapping):
        unknown = [name for name in target_names if name not in range(count)]
        if unknown:
            raise ValueError(f"target_names must have keys in 0..{count - 1}, found {unknown[0]!r}")
        return [target_names.get(index, index) for index in range(count)]
    if len(target_names) != count:
        raise ValueError(f"target_names must name each of the {count} scores, found {len(target_names)} names")
    return list(target_names)


def find_target(target: Any, names: Sequence[Any]) -> int:
    """Return the index of a target given by its name or its index, or raise a ValueError."""
    if target in names:
        return list(names).index(target)
    if isinstance(target, int | np.integer) and not isinstance(target, bool) and 0 <= target < len(names):
        return int(target)
    known = ", ".join(repr(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
    raise ValueError(f"target must be one of {known}, found {target!r}")


def probabilities(scores: Tensor) -> Tensor:
    """Return the probabilities of logits `[K]`; a single logit belongs to the second of two classes."""
    return scores.softmax(dim=0) if len(scores) > 1 else scores.sigmoid()
