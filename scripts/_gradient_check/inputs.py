"""Random inputs of `gradient_check.py --module`, by `--shape`."""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

_FORM = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<dims>[^:]*)(?::(?P<dtype>[A-Za-z]\w*))?(?::(?P<range>[^:]+))?")
_RANGE = re.compile(r"(?P<low>[-+.\de]*[\d])\.\.(?P<high>[-+.\de]+)")
_DTYPES = {
    "float": torch.float64, "double": torch.float64, "float64": torch.float64, "complex": torch.complex128,
    "complex128": torch.complex128, "int": torch.int64, "long": torch.int64, "int64": torch.int64,
    "int32": torch.int32, "int16": torch.int16, "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip


class Input(NamedTuple):
    """A random input."""

    name: str | None  # of the argument; None for one by position
    shape: tuple[int, ...]
    dtype: torch.dtype
    range: tuple[float, float] | None

    def draw(self, generator: torch.Generator, module: nn.Module | None) -> Tensor:
        """Draw the input: of a standard normal distribution, or uniform in the range.

        Integers without a range are indices of the smallest embedding of the module, otherwise 0 or 1.
        """
        if self.dtype.is_floating_point:
            if self.range is None:
                return torch.randn(self.shape, generator=generator, dtype=self.dtype)
            low, high = self.range
            return low + (high - low) * torch.rand(self.shape, generator=generator, dtype=self.dtype)
        if self.dtype.is_complex:
            return torch.randn(self.shape, generator=generator, dtype=self.dtype)
        low, high = self.range or (0, 1)
        embeddings = [one.num_embeddings for one in (module or nn.Module()).modules() if isinstance(one, nn.Embedding)]
        if self.range is None and embeddings and self.dtype != torch.bool:
            high = min(embeddings) - 1
        return torch.randint(int(low), int(high) + 1, self.shape, generator=generator).to(self.dtype)


def read_input(text: str) -> Input:
    """Read `[NAME=]SIZES[:DTYPE][:LOW..HIGH]`.

    Raises:
        ValueError: If it is none.

    Example:
        >>> read_input("4,3,8,8").shape, read_input("mask=4,7:bool").name, read_input("4,7:int:0..9").range
        ((4, 3, 8, 8), 'mask', (0.0, 9.0))
    """
    match = _FORM.fullmatch(text.replace(" ", ""))
    sizes = re.split("[,x]", match["dims"].strip("[]()").strip(",")) if match else []
    within = _RANGE.fullmatch(match["range"]) if match and match["range"] else None
    if (
        match is None
        or not all(size.isdecimal() and int(size) for size in sizes if size)
        or (match["range"] and within is None)
    ):
        raise ValueError(f"--shape must be SIZES[:DTYPE][:LOW..HIGH], such as 4,3,8,8 or 4,7:int:0..9, found {text!r}")
    dtype = match["dtype"] or "float64"
    if dtype not in _DTYPES:
        raise ValueError(f"--shape {text}: the type must be one of {', '.join(_DTYPES)}, found {dtype}")
    low, high = (float(within["low"]), float(within["high"])) if within else (0.0, 0.0)
    if within and not low <= high:
        raise ValueError(f"--shape {text}: the range must be LOW..HIGH with LOW at most HIGH, found {match['range']}")
    shape = tuple(int(size) for size in sizes if size)
    return Input(match["name"], shape, _DTYPES[dtype], (low, high) if within else None)
