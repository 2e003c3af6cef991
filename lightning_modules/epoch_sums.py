"""Sums over an epoch that cost a training step next to nothing."""

import torch
from torch import Tensor


class EpochSums:
    """Running sums of per-batch scalars, on the device of the first batch, and the number of examples.

    No value is read back before the end of the epoch, so that a GPU is never waited for. Sums are float64 where the
    device supports it (Apple's GPU does not), so that rounding does not grow with the epoch's length.

    Args:
        names: Names of the sums.

    >>> sums = EpochSums("nll", "correct")
    >>> sums.add(2, torch.tensor(1.5), torch.tensor(1))
    >>> sums.add(2, torch.tensor(0.5), torch.tensor(2))
    >>> sums.means(sums.vector("cpu"))
    {'nll': 0.5, 'correct': 0.75}
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.reset()

    def reset(self) -> None:
        """Restart from zero."""
        self.count = 0.0
        self._sums: list[Tensor] | None = None

    def add(self, count: int, *values: Tensor) -> None:
        """Add one batch.

        Args:
            count: Number of examples.
            values: One detached 0-d tensor per name: the batch's sum.
        """
        if self._sums is None:
            self._sums = [_zeros((), value.device) for value in values]
        for total, value in zip(self._sums, values, strict=True):
            total.add_(value)
        self.count += count

    def vector(self, device: torch.device | str) -> Tensor:
        """Return the sums and the count as a tensor `[len(names) + 1]`, which can be summed over processes."""
        vector = _zeros((len(self.names) + 1,), torch.device(device))
        if self._sums is not None:
            vector[:-1] = torch.stack(self._sums)
        vector[-1] = self.count
        return vector

    def load(self, vector: Tensor) -> None:
        """Continue from the result of `vector`."""
        self._sums = [_zeros((), vector.device) + value for value in vector[:-1]]
        self.count = float(vector[-1])

    def means(self, vector: Tensor) -> dict[str, float]:
        """Divide each sum in the result of `vector` by the count; return {} if the count is 0."""
        *sums, count = vector.tolist()
        return {name: value / count for name, value in zip(self.names, sums, strict=True)} if count else {}


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.zeros(shape, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
