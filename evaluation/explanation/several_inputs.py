"""Networks of several inputs, as networks of one: a row that holds them all."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import Array, as_tensor
from .network import unwrapped


def is_several(inputs: Any) -> bool:
    """Return whether these are the inputs of a network with several: a tuple of tensors or arrays.

    >>> is_several((torch.ones(2, 3), torch.ones(2, 4))), is_several([[1.0, 2.0]])
    (True, False)
    """
    return isinstance(inputs, tuple) and all(hasattr(one, "shape") and len(one.shape) > 0 for one in inputs)


class Packed(nn.Module):
    """A network whose inputs are one row `[N, D]`; those that do not change come last and are given as they were made.

    Args:
        model: Maps several inputs `[N, ...]` to scores.
        inputs: Tensors or arrays, each of N examples.
        fixed: Further arguments of the network, which are not explained: tensors or arrays of N examples, or anything
            else, such as a number.

    Attributes:
        row: All examples `[N, D]`, the fixed ones among them.

    Raises:
        ValueError: If the inputs do not have the same number of examples.

    >>> packed = Packed(nn.Bilinear(3, 4, 2), (torch.ones(5, 3), torch.ones(5, 4)))
    >>> packed(packed.row.float()).shape, [part.shape for part in packed.parts(packed.row)]
    (torch.Size([5, 2]), [torch.Size([5, 3]), torch.Size([5, 4])])
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Array], fixed: Sequence[Any] = ()) -> None:
        super().__init__()
        self.model = unwrapped(model)
        self.count = len(inputs)
        self.arguments = [as_tensor(one) if i < self.count or is_several((one,)) else one
                          for i, one in enumerate((*inputs, *fixed))]  # fmt: skip
        tensors = [one for one in self.arguments if isinstance(one, Tensor)]
        counts = [len(one) for one in tensors]
        if not counts or len(set(counts)) > 1 or 0 in counts or any(one.is_complex() for one in tensors):
            found = ", ".join(str(list(one.shape)) for one in tensors) or "none"
            raise ValueError(f"the inputs must be real, [N, ...] with the same N, found {found}")
        self.shapes = [one.shape[1:] for one in tensors]
        self.row = torch.cat([one.reshape(len(one), -1).double() for one in tensors], dim=1)

    def parts(self, row: Tensor) -> list[Tensor]:
        """Return the tensors that a row holds."""
        pieces = row.split([math.prod(shape) for shape in self.shapes], dim=1)
        return [piece.reshape(len(row), *shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def forward(self, row: Tensor) -> Any:
        """Return what the network makes of the inputs."""
        parts = iter(self.parts(row))
        arguments = []
        for one in self.arguments:
            part = next(parts) if isinstance(one, Tensor) else one
            whole = isinstance(one, Tensor) and not one.is_floating_point()
            arguments.append(part.round().to(one.dtype) if whole else part)
        return self.model(*arguments)

    def baseline(self, given: Any) -> Tensor:
        """Return the row `[N, D]` at which a path starts: the given numbers or examples, and the fixed inputs."""
        starts = given if isinstance(given, tuple) else (given,) * self.count
        if len(starts) != self.count:
            raise ValueError(f"baseline must be a number, or one of each of {self.count} inputs, found {len(starts)}")
        pieces = self.parts(self.row)
        for i, start in enumerate(starts):
            value, shape = as_tensor(start).to(self.row), pieces[i].shape
            if value.shape not in ((), shape[1:], shape, (1, *shape[1:])):
                raise ValueError(
                    f"baseline must be a number or of shape {list(shape[1:])}, like the input, found "
                    f"{list(value.shape)}"
                )
            pieces[i] = value.expand(shape)
        return torch.cat([piece.reshape(len(piece), -1) for piece in pieces], dim=1)
