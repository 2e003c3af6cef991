"""Running a network to explain it, and leaving it as it was.

Which of a network's scores to explain, and what they are called.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..calibration.inputs import as_tensor


def display_names(count: int, target_names: Sequence[Any] | Mapping[Any, Any] | None, is_regression: bool) -> list[Any]:
    """Return the names of ``count`` scores: given ones, else their indices (``"y"`` for the only one of a regression).

    Raises:
        ValueError: If names and scores are not equally many.

    Example:
        >>> display_names(3, {1: "dog"}, is_regression=False)
        [0, 'dog', 2]
    """
    if target_names is None:
        return ["y"] if is_regression and count == 1 else list(range(count))
    if isinstance(target_names, Mapping):
        unknown = [name for name in target_names if name not in range(count)]
        if unknown:
            raise ValueError(f"target_names must be keyed by 0..{count - 1}, got {unknown[0]!r}")
        return [target_names.get(index, index) for index in range(count)]
    if len(target_names) != count:
        raise ValueError(f"target_names must name each of the {count} scores, got {len(target_names)} names")
    return list(target_names)


def find_target(target: Any, names: Sequence[Any]) -> int:
    """Return the index of a target given by its name or its index.

    Raises:
        ValueError: If there is none.
    """
    if target in names:
        return list(names).index(target)
    if isinstance(target, int | np.integer) and not isinstance(target, bool) and 0 <= target < len(names):
        return int(target)
    known = ", ".join(repr(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
    raise ValueError(f"there is no target {target!r}: the targets are {known}")


def top_targets_of(scores: Tensor, count: int) -> list[int]:
    """Return the indices of the highest scores ``[K]``, or of the lowest ones if ``count`` is negative."""
    if isinstance(count, bool) or not isinstance(count, int) or count == 0:
        raise ValueError(f"top_targets must be an integer other than 0, got {count!r}")
    return scores.topk(min(abs(count), len(scores)), largest=count > 0).indices.tolist()


def probabilities(scores: Tensor) -> Tensor:
    """Return the probabilities of logits ``[K]``; one logit is that of the second of two classes."""
    return scores.softmax(dim=0) if len(scores) > 1 else scores.sigmoid()


_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Network:
    """A network as :func:`undisturbed` gives it.

    Attributes:
        module: Its module, without a wrapper for several processes or for compilation.
        device: Where it computes.
        dtype: float32 or float64, in which it computes.
        call: Maps inputs to whatever the module returns.
    """

    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    call: Callable[[Tensor], Tensor]

    def place(self, values: Tensor | npt.ArrayLike) -> Tensor:
        """Return finite values on the network's device and in its dtype, or raise a ValueError."""
        tensor = as_tensor(values)
        if tensor.is_complex():
            raise ValueError(f"the input must hold real numbers, got {tensor.dtype}")
        placed = tensor.to(self.device, self.dtype)
        # What was made under inference_mode cannot take part in a gradient.
        placed = placed.clone() if placed.is_inference() else placed
        if not bool(placed.isfinite().all()):
            raise ValueError("the input must be finite, got NaN or inf")
        return placed

    def scores(self, inputs: Tensor) -> Tensor:
        """Return the outputs ``[N, K]`` (``[N, 1]`` for a network that returns ``[N]``), or raise a ValueError."""
        found = self.call(inputs.clone())  # which a first layer may overwrite
        if not isinstance(found, Tensor):
            raise ValueError(f"the network must return a tensor of scores [N, K], got {type(found).__name__}: wrap it")
        if found.ndim == 1 and len(found) == len(inputs):
            found = found[:, None]
        if found.ndim != 2 or len(found) != len(inputs) or found.shape[1] == 0:
            raise ValueError(
                f"the network must return scores [N, K], got {list(found.shape)} for inputs {list(inputs.shape)}"
            )
        return found


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[Network]:
    """Run a network in evaluation mode with gradients, and leave it as it was.

    Within the block gradients can be taken whatever the caller's mode (``no_grad``, ``inference_mode``), autocast is
    off, and compiled networks run eagerly, since compiled code passes over hooks. A network in float16 or bfloat16 is
    evaluated in float32 with the same weights: sums of gradients in 8 bits say little. Afterwards each module is in the
    mode it was in; parameters, their ``grad`` and buffers are untouched as long as gradients are taken by
    ``torch.autograd.grad``.

    Args:
        model: Any network.

    Yields:
        What calls it.

    Raises:
        ValueError: If it was scripted or traced.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Dropout())
        >>> with undisturbed(net) as network:
        ...     scores = network.scores(network.place([[1.0, 2.0]]))
        >>> scores.shape, net.training
        (torch.Size([1, 3]), True)
    """
    module = model.module if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) else model
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("a scripted or traced network cannot be looked into: explain the one that it was made from")
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    floating = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    device = floating[0].device if floating else torch.device("cpu")
    dtype = floating[0].dtype if floating else torch.float32
    modes = {part: part.training for part in module.modules()}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if any(getattr(part, "_compiled_call_impl", None) or hasattr(part, "_orig_mod") for part in modes):
            # Compiled code would not call hooks that came after it.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        call: Callable[[Tensor], Tensor] = module
        if any(tensor.dtype in _HALF or tensor.is_inference() for tensor in tensors.values()):
            copies = {name: _usable(tensor) for name, tensor in tensors.items()}

            def call(inputs: Tensor) -> Tensor:
                return torch.func.functional_call(module, copies, (inputs,))

        try:
            module.eval()
            yield Network(module, device, torch.float64 if dtype == torch.float64 else torch.float32, call)
        finally:
            for part, training in modes.items():
                part.training = training


def _usable(tensor: Tensor) -> Tensor:
    """A tensor of the network as gradients can be taken through it."""
    values = tensor.detach()
    values = values.clone() if values.is_inference() else values
    return values.float() if values.dtype in _HALF else values
