"""Fitted centres applied to data: labels, distances and the objective.

In all functions the centres are given in the coordinates of the data, as the user sees them.
"""

from dataclasses import replace

from .data import Array, Labels, to_numpy
from .device import open_rows
from .parallel import find_gpus, open_gpus
from .problem import Problem
from .survey import scale_weights, unscale


def label(problem: Problem, centres: Array, device: str) -> Labels:
    """Return the nearest centre of each row: int32 `[N]`."""
    problem = replace(problem, gpus=open_gpus(find_gpus(device)))
    with problem.workers:
        return open_rows(problem).label(problem.coordinates.float64(to_numpy(centres)))


def distances(problem: Problem, centres: Array) -> Array:
    """Return the distance of each row to each centre: `[N, K]`."""
    with problem.workers:
        return open_rows(problem).distances(problem.coordinates.float64(to_numpy(centres)))


def objective(problem: Problem, centres: Array, device: str) -> float:
    """Return the objective of the data."""
    problem, exponent = scale_weights(problem)
    labels = label(problem, centres, device)
    with problem.workers:
        squares = open_rows(problem).objective(problem.coordinates.float64(to_numpy(centres)), labels)
    return unscale(problem.coordinates.restore_objective(squares), exponent)
