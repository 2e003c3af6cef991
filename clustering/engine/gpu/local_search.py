"""Local search on a device (see `engine.local_search`): several exchanges are tried at once, and kept if they pay.

One exchange lowers the objective by what was computed for it. Several may get into each other's way: the objective of
all together decides, and if it did not fall, half of them are tried.
"""

import torch
from torch import Tensor

from ..data import to_numpy
from ..local_search import CUT_ITERATIONS, MIN_GAIN, ROUNDS, pairs
from ..seeding import BATCH
from .points import Points, TwoNearest
from .sums import sums_by


def swap(points: Points, centres: Tensor, limit: int) -> tuple[Tensor, int]:
    """Replace centres by points while that lowers the objective.

    The search ends after a batch of candidates without success, or after `limit` candidates. Returns the centres
    `[K, D]` and the number of replacements.
    """
    if len(centres) < 2:
        return centres, 0
    two, moved, most = TwoNearest(points, centres), 0, len(centres)
    for _ in range(-(-limit // BATCH)):
        candidates = points.draw(two.squares[0], BATCH)
        exchanges = _exchanges(two, candidates)[:most]
        if not exchanges:
            break
        trial = two.centres.clone()
        new, removed = torch.tensor(exchanges, device=trial.device).unbind(1)
        trial[removed] = points.rows[candidates[new]]
        after = TwoNearest(points, trial)
        if after.objective < two.objective:
            two, moved = after, moved + len(exchanges)
        elif len(exchanges) == 1:
            break
        else:
            most = len(exchanges) // 2
    return two.centres, moved


def _exchanges(two: TwoNearest, candidates: Tensor) -> list[tuple[int, int]]:
    """Return which candidates should replace which centres, the most profitable first, each centre at most once."""
    first, second = two.squares
    distances, weights, clusters = two.points.squares_from(candidates), two.points.weights, len(two.centres)
    with_row = torch.minimum(first, distances)
    # Without its centre a point goes to its second nearest, or to the candidate.
    increase = (torch.minimum(second, distances) - with_row) * weights
    cost, removed = sums_by(two.labels[0], increase.T, clusters).min(dim=0)
    gains = ((first - with_row) * weights).sum(dim=1) - cost
    table = torch.stack([gains, removed.double(), two.labels[0][candidates].double()]).tolist()
    chosen: list[tuple[int, int]] = []
    used: set[float] = set()
    for number in sorted(range(len(candidates)), key=lambda i: -table[0][i]):
        gain, cluster, region = (column[number] for column in table)
        if gain > MIN_GAIN * two.objective / clusters and not {cluster, region} & used:
            chosen.append((number, int(cluster)))
            used |= {cluster, region}
    return chosen


def split_and_merge(points: Points, centres: Tensor) -> tuple[Tensor, int]:
    """Split clusters and remove others while that lowers the objective; return the centres and the number moved."""
    clusters = len(centres)
    if clusters < 3:
        return centres, 0
    two, moved, most = TwoNearest(points, centres), 0, clusters
    for _ in range(ROUNDS):
        halves, gains = _cut(two)
        lost = (two.squares[1] - two.squares[0]) * points.weights
        cost = sums_by(two.labels[0], lost[:, None], clusters)[:, 0]
        chosen = pairs(to_numpy(gains), to_numpy(cost), most)
        if not chosen:
            break
        trial = two.centres.clone()
        split, removed = torch.tensor(chosen, device=trial.device).unbind(1)
        trial[split], trial[removed] = halves[0, split], halves[1, split]
        after = _improve(points, trial)
        if after.objective < two.objective:
            two, moved = after, moved + len(chosen)
        elif len(chosen) == 1:
            break
        else:
            most = len(chosen) // 2
    return two.centres, moved


def _cut(two: TwoNearest) -> tuple[Tensor, Tensor]:
    """Cut each cluster in two by 2-means, which starts from the centre and a point drawn far from it.

    Returns the means of both halves, float32 `[2, K, D]`, and how much each cut lowers the objective, `[K]`.
    """
    points, labels, clusters = two.points, two.labels[0], len(two.centres)
    offsets = points.rows - two.centres[labels]
    normals = offsets[_far_points(two)]
    thresholds = offsets.new_zeros(clusters)
    for _ in range(CUT_ITERATIONS):
        side = (offsets * normals[labels]).sum(dim=1) > thresholds[labels]
        half = labels + clusters * side
        total = sums_by(half, points.weights[:, None], 2 * clusters)[:, 0]
        means = sums_by(half, offsets * points.weights[:, None], 2 * clusters)
        means /= total.clamp(min=1e-300)[:, None]
        low, high = means[:clusters], means[clusters:]
        normals = (high - low).float()
        squares = means.square().sum(dim=1)
        thresholds = ((squares[clusters:] - squares[:clusters]) / 2).float()
    low_weight, high_weight = total[:clusters], total[clusters:]
    both = (low_weight + high_weight).clamp(min=1e-300)
    gains = low_weight * high_weight / both * (high - low).square().sum(dim=1)
    return means.float().view(2, clusters, -1) + two.centres, gains


def _far_points(two: TwoNearest) -> Tensor:
    """Return the number of a point of each cluster, drawn with probabilities proportional to its squared distance."""
    points, labels = two.points, two.labels[0]
    keys = points.race(two.squares[0], 1)[0]
    largest = keys.new_full((len(two.centres),), -torch.inf).scatter_reduce_(0, labels, keys, "amax")
    numbers = torch.arange(len(labels), device=labels.device)
    drawn = torch.where(keys == largest[labels], numbers, len(labels))
    first = numbers.new_full((len(two.centres),), len(labels)).scatter_reduce_(0, labels, drawn, "amin")
    return torch.where(first < len(labels), first, 0)  # an empty cluster has none, and cuts nothing


def _improve(points: Points, centres: Tensor) -> TwoNearest:
    """Return the two nearest centres of each point after two of Lloyd's iterations."""
    for _ in range(2):
        labels = TwoNearest(points, centres).labels[0]
        total = sums_by(labels, points.weights[:, None], len(centres))
        sums = sums_by(labels, points.rows * points.weights[:, None], len(centres))
        centres = torch.where(total > 0, sums / total.clamp(min=1e-300), centres.double()).float()
    return TwoNearest(points, centres)
