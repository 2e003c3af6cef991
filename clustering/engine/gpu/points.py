"""A sample on a device: distances, draws, and the two nearest centres of each point."""

import torch
from torch import Tensor

from .chunks import pieces
from .nearest import exact_products


class Points:
    """The points of a start, and its random numbers.

    Args:
        wide: float64 `[N, D]`, in the coordinates of the problem.
        weights: float64 `[N]`; None if each counts once.
        generator: A generator of the device.
    """

    def __init__(self, wide: Tensor, weights: Tensor | None, generator: torch.Generator) -> None:
        self.wide, self.rows, self.given_weights = wide, wide.float(), weights
        self.weights = wide.new_ones(len(wide)) if weights is None else weights
        self.squares = self.rows.square().sum(dim=1)
        self.generator = generator

    def draw(self, potential: Tensor, count: int) -> Tensor:
        """Draw `count` numbers with probabilities proportional to `weight * potential`; uniformly if all are 0."""
        return self.race(potential, count).argmax(dim=1)

    def race(self, potential: Tensor, count: int) -> Tensor:
        """Return float64 `[count, N]` numbers, of which each is the largest of its row with such a probability."""
        # The first of several exponential clocks with rates p_i is clock i with probability p_i / sum p. Sums, whose
        # last bits differ from run to run on a GPU, are not needed.
        rates = (potential * self.weights).clamp_(min=1e-300)
        clocks = torch.empty(count, len(rates), dtype=torch.float64, device=rates.device)
        return rates / clocks.exponential_(generator=self.generator)

    def chances(self, draws: int, trials: int) -> tuple[Tensor, Tensor]:
        """Return float64 `[draws, trials, N]` numbers: times the potential they are those of `race`, for several draws.

        The second tensor, to be added, decides where the potential is 0 everywhere.
        """
        chances = torch.empty(draws, trials, len(self.rows), dtype=torch.float64, device=self.rows.device)
        chances.exponential_(generator=self.generator).reciprocal_()
        if self.given_weights is not None:
            chances *= self.given_weights
        return chances, chances * 1e-300

    def squares_from(self, numbers: Tensor) -> Tensor:
        """Return the squared distances from `B` of the points to all points: float32 `[B, N]`."""
        norms = self.squares[numbers][:, None] + self.squares
        with exact_products(self.rows.device):
            return torch.addmm(norms, self.rows[numbers], self.rows.T, alpha=-2).clamp_(min=0)


class TwoNearest:
    """The two nearest centres of each point.

    Attributes:
        centres: float32 `[K, D]`, at least two.
        squares: float32 `[2, N]`, squared distances in ascending order.
        labels: int64 `[2, N]`.
        objective: Weighted sum of the squared distances to the nearest centres.
    """

    def __init__(self, points: Points, centres: Tensor) -> None:
        self.points, self.centres = points, centres
        parts = [self._search(cut) for cut in pieces(len(points.rows), len(centres))]
        self.squares = torch.cat([squares for squares, _ in parts], dim=1)
        self.labels = torch.cat([labels for _, labels in parts], dim=1)
        self.objective = float((self.squares[0] * points.weights).sum())

    def _search(self, cut: slice) -> tuple[Tensor, Tensor]:
        sizes, norms = self.points.squares[cut], self.centres.square().sum(dim=1)
        with exact_products(norms.device):
            scores = torch.addmm(norms, self.points.rows[cut], self.centres.T, alpha=-2)
        first, label = scores.min(dim=1)
        second, other = scores.scatter_(1, label[:, None], torch.inf).min(dim=1)
        return (torch.stack([first, second]) + sizes).clamp_(min=0), torch.stack([label, other])
