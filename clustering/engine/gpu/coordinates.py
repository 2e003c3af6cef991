"""`Coordinates` for tensors on a device, value for value those for arrays."""

import numpy as np
import torch
from torch import Tensor

from ..coordinates import Coordinates
from ..data import Float64


def float64(coordinates: Coordinates, rows: Tensor) -> Tensor:
    """Return rows of the data in the coordinates, in float64; the cosine refuses a row of zeros."""
    wide = rows.double()
    if coordinates.metric == "cosine":
        largest = wide.abs().amax(dim=1, keepdim=True)
        if not bool(largest.all()):
            raise ValueError("X contains a row of zeros, which has no direction: drop such rows for the cosine")
        # By a power of two, so that squares neither over- nor underflow and no digit changes.
        wide = torch.ldexp(wide, -largest.frexp().exponent.clamp(-1000, 1000))
        return wide / wide.square().sum(dim=1, keepdim=True).sqrt_()
    wide = wide - offset(coordinates, rows.device)
    return wide * coordinates.scale if coordinates.scale != 1 else wide


def float32(coordinates: Coordinates, rows: Tensor) -> Tensor:
    """Return the rows in the coordinates, rounded to float32."""
    if is_plain(coordinates, rows):
        return rows.float() - offset(coordinates, rows.device).float()
    return float64(coordinates, rows).float()


def is_plain(coordinates: Coordinates, rows: Tensor) -> bool:
    """Return whether subtracting the offset in float32 gives the rows in the coordinates, rounded to float32."""
    narrow = rows.dtype in (torch.float32, torch.float16, torch.bfloat16)
    return narrow and coordinates.metric == "euclidean" and coordinates.scale == 1


def offset(coordinates: Coordinates, device: torch.device) -> Tensor:
    """Return the offset on the device: float64 `[D]`, or `[1]` for the coordinates of the data."""
    return to_device(coordinates.offset, device)


def to_device(values: Float64, device: torch.device) -> Tensor:
    """Return an array as a tensor on the device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
