"""Fitted centres applied to data: labels, distances and the objective.

In all functions the centres are given in the coordinates of the data, as the user sees them.
"""

from dataclasses import replace

from torch import Tensor

from .data import Array, Labels, to_numpy
from .device import Place, open_rows, place
from .parallel import Inline, open_gpus
from .problem import Problem
from .survey import scale_weights, unscale


def move(problem: Problem, where: Place) -> Problem:
    """Return the problem with the device, and the GPUs of Faiss, that are to process it."""
    workers = problem.workers if where.device is None else Inline()
    return replace(problem, workers=workers, device=where.device, gpus=open_gpus(where.gpus))


def label(problem: Problem, centres: Array) -> Labels | Tensor:
    """Return the nearest centre of each row: int32 `[N]`."""
    with problem.workers:
        return open_rows(problem).label(problem.coordinates.float64(to_numpy(centres)))


def distances(problem: Problem, centres: Array) -> Array | Tensor:
    """Return the distance of each row to each centre: `[N, K]`."""
    with problem.workers:
        return open_rows(problem).distances(problem.coordinates.float64(to_numpy(centres)))


def objective(problem: Problem, centres: Array) -> float:
    """Return the objective of the data."""
    problem, exponent = scale_weights(place(problem))
    labels = label(problem, centres)
    with problem.workers:
        squares = open_rows(problem).objective(problem.coordinates.float64(to_numpy(centres)), labels)
    return unscale(problem.coordinates.restore_objective(squares), exponent)
