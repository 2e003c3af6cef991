"""The nearest centre of each row on a device, and its margin: labels as float64 decides them, at the price of less.

Rows are searched in rising precision. Each level bounds the error of its scores, and only rows whose two best scores
are closer than that go on: from products in bfloat16 and TF32 (Triton, on CUDA) to float32, and to float64 for what is
left, where equally near centres are decided by their differences, the first one first. Every bound holds for the worst
case: the norms of what rounding has cut off times the norms of the other factor (Cauchy, Schwarz), and the number of
additions times the largest sum (Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1).
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..coordinates import Coordinates
from ..data import Float64
from .chunks import PIECE, pieces
from .coordinates import float32, float64, is_plain, offset, to_device

_SAFE = 1.01
"""Covers the rounding of the bounds themselves."""
_FLOAT32, _TENSOR_CORE, _FLOAT64 = 2.0**-23, 2.0**-22, 2.0**-51
"""Bounds on the relative error of an addition, which tensor cores do not round correctly."""


class Found(NamedTuple):
    """The result of a search among the centres for each of `B` rows."""

    labels: Tensor  # int32 or int64, the centre with the smallest score
    first: Tensor  # the smallest score |c|^2 - 2 <x, c>
    second: Tensor  # the second smallest
    sizes: Tensor  # |x|^2
    doubt: Tensor  # bound on the error of `second - first`

    def margins(self) -> Tensor:
        """Return a lower bound on how much farther every other centre is; it is not above 0 where that is unknown."""
        # d2 - d1 = (d2^2 - d1^2) / (d2 + d1)
        near, far = ((score + self.sizes).clamp_(min=0) + self.doubt for score in (self.first, self.second))
        gap = self.second - self.first - self.doubt
        return gap / (near.sqrt_() + far.sqrt_() + 1e-30) * 0.999


class Nearest:
    """Searches among fixed centres, float64 `[K, D]` in `coordinates`.

    Args:
        centres: The centres.
        coordinates: The coordinates in which they are given.
        device: The device of the rows.
        precision: `"tf32"` keeps the labels of products in TF32 where there are such.
    """

    def __init__(
        self, centres: Float64, coordinates: Coordinates, device: torch.device, precision: str = "exact"
    ) -> None:
        self.coordinates, self.device, self.precision = coordinates, device, precision
        self.wide = to_device(centres, device)
        squares = self.wide.square().sum(dim=1)
        self.norms, self.largest = squares.float(), squares.max()
        self.narrow = self.wide.float()
        self.screens = [Screen(self, bits) for bits in self._bits()]

    def _bits(self) -> tuple[int, ...]:
        if self.device.type != "cuda" or importlib.util.find_spec("triton") is None:
            return ()
        if torch.cuda.get_device_capability(self.device) < (8, 0):  # no bfloat16 or TF32 in its tensor cores
            return ()
        return (13,) if self.precision == "tf32" else (16, 13)

    def search(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return int32 `[B]` labels and float32 `[B]` margins of rows in the type and coordinates of the data."""
        if len(self.wide) == 1:
            return rows.new_zeros(len(rows), dtype=torch.int32), rows.new_full((len(rows),), torch.inf).float()
        levels: list[Callable[[Tensor, Tensor | None], Found]] = [*self.screens, self.by_float32]
        found = levels[0](rows, None)
        labels, margins = found.labels.int(), found.margins()
        if self.precision == "tf32" and self.screens:
            return labels, margins
        left = (margins > 0).logical_not_().nonzero().squeeze(1)  # NaN is not above 0 either
        for level in levels[1:]:
            if not len(left):
                break
            found = level(rows, left)
            labels[left], margins[left] = found.labels.int(), found.margins()
            left = left[(margins[left] > 0).logical_not_()]
        if len(left):
            labels[left] = self.by_float64(rows, left).int()
        return labels, margins

    def by_float32(self, rows: Tensor, which: Tensor | None) -> Found:
        """Search by a table of all scores in float32, piece by piece."""
        part = rows if which is None else rows[which]
        parts = [self._table(part[piece]) for piece in pieces(len(part), len(self.wide) + part.shape[1])]
        return Found(*map(torch.cat, zip(*parts, strict=True)))

    def _table(self, rows: Tensor) -> Found:
        narrow = float32(self.coordinates, rows)
        sizes = narrow.square().sum(dim=1)
        with exact_products(self.device):
            scores = torch.addmm(self.norms, narrow, self.narrow.T, alpha=-2)
        first, labels = scores.min(dim=1)
        second = scores.scatter_(1, labels[:, None], torch.inf).amin(dim=1)
        largest = self.largest.float()
        error = (rows.shape[1] + 8) * _FLOAT32 * (largest + 2 * (sizes * largest).sqrt())
        return Found(labels, first, second, sizes, 2 * _SAFE * error)

    def by_float64(self, rows: Tensor, which: Tensor) -> Tensor:
        """Return the nearest centres of the rows with the given numbers, the first of equally near ones."""
        cuts = pieces(len(which), len(self.wide) + rows.shape[1], PIECE // 4)
        return torch.cat([self._decide(float64(self.coordinates, rows[which[cut]])) for cut in cuts])

    def _decide(self, rows: Tensor) -> Tensor:
        sizes, clusters = rows.square().sum(dim=1), len(self.wide)
        scores = torch.addmm(self.wide.square().sum(dim=1), rows, self.wide.T, alpha=-2)
        error = (rows.shape[1] + 8) * _FLOAT64 * (self.largest + 2 * (sizes * self.largest).sqrt())
        row, centre = (scores <= (scores.amin(dim=1) + 2 * error)[:, None]).nonzero().unbind(1)
        squares = torch.cat(
            [
                (rows[row[cut]] - self.wide[centre[cut]]).square().sum(dim=1)
                for cut in pieces(len(row), rows.shape[1], PIECE // 4)
            ]
        )
        least = rows.new_full((len(rows),), torch.inf).scatter_reduce_(0, row, squares, "amin")
        candidates = torch.where(squares == least[row], centre, clusters)
        labels = torch.full((len(rows),), clusters, dtype=torch.int64, device=rows.device)
        return labels.scatter_reduce_(0, row, candidates, "amin")


class Screen:
    """A search by products of numbers that are `bits` bits shorter than float32."""

    def __init__(self, nearest: Nearest, bits: int) -> None:
        from . import kernels

        self.nearest, self.bits, self.launch = nearest, bits, kernels.launch
        clusters = len(nearest.narrow)
        filled = -(-clusters // kernels.CENTRES) * kernels.CENTRES
        rounded = shortened(nearest.narrow, bits)
        self.cut = (nearest.wide - rounded.double()).square().sum(dim=1).max().sqrt().float()
        self.size = rounded.square().sum(dim=1).max().sqrt()
        dim = rounded.shape[1]
        centres = rounded.new_zeros(filled, kernels.width(dim))
        centres[:clusters, :dim] = -2 * rounded
        self.centres = centres.bfloat16() if bits == 16 else centres
        self.norms = rounded.new_full((filled,), kernels.FAR)
        self.norms[:clusters] = nearest.norms
        self.changed = 2.0 ** (kernels.places(filled) - 23)  # share of a score that its tile's number may change

    def __call__(self, rows: Tensor, which: Tensor | None) -> Found:
        """Search all rows, or those with the given numbers."""
        coordinates, largest, given = self.nearest.coordinates, self.nearest.largest.float(), (rows, which)
        if is_plain(coordinates, rows) and rows.stride(1) == 1:
            shift = offset(coordinates, rows.device).float().expand(rows.shape[1]).contiguous()
        else:
            rows, which = float32(coordinates, rows if which is None else rows[which]), None
            shift = rows.new_zeros(rows.shape[1])
        searched = self.launch(rows, which, shift, self.centres, self.norms, self.bits)
        if searched is None:  # no room for the tiles
            return self.nearest.by_float32(*given)
        labels, (first, second, sizes, cuts) = searched
        lengths = sizes.sqrt()
        error = 2 * ((cuts.sqrt() + _FLOAT32 * lengths) * self.size + lengths * self.cut)
        error += (rows.shape[1] + 8) * _TENSOR_CORE * (largest + 2 * lengths * self.size)
        doubt = 2 * _SAFE * error + 2 * self.changed * (first.abs() + second.abs())
        return Found(labels, first, second, sizes, doubt)


def shortened(values: Tensor, bits: int) -> Tensor:
    """Round float32 to the nearest number whose last `bits` bits are 0, ties to even."""
    whole = values.view(torch.int32)
    half = (1 << (bits - 1)) - 1 + ((whole >> bits) & 1)
    return (((whole + half) >> bits) << bits).view(torch.float32)


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply float32 matrices in float32, whatever the process has chosen for its networks: TF32, or autocast."""
    # By backend: torch.get_float32_matmul_precision raises where a user has chosen by the newer attributes.
    every: Any = torch.backends
    backends = every.cuda.matmul, every.mkldnn.matmul
    chosen = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, chosen, strict=True):
            backend.fp32_precision = precision
