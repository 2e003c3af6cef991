"""Fitted centres applied to data."""

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .coordinates import Frame
from .data import BLOCK, Block, Source, pieces
from .device import resources
from .grid import Float64
from .kind import Kind
from .nearest import Labels, Nearest
from .parallel import Workers
from .survey import check_finite


def nearest(source: Source, centres: Float64, frame: Frame, gpus: list[int]) -> Labels:
    """The nearest centre of each row: int32 ``[N]``."""
    labels = np.empty(source.count, dtype=np.int32)
    search = Nearest(centres, frame, resources(gpus))

    def label(block: Block) -> None:
        rows = block.rows()
        check_finite(rows.min(), rows.max())
        labels[block.start : block.stop] = search.search(rows, block.start // BLOCK).labels

    with Workers() as workers:
        for _ in workers.map(label, source.blocks()):
            pass
    return labels


def objective(source: Source, labels: Labels, centres: Float64, frame: Frame, weights: Float64 | None) -> float:
    """The weighted sum of squared distances (of ``1 - cosine``), in the data's coordinates."""
    with Workers() as workers:
        parts = workers.map(partial(squared_distances, labels, centres, frame, weights), source.blocks())
        total = math.fsum(float(part.sum()) for part in parts)
    return total / 2 if frame.metric == "cosine" else total / frame.scale**2


def squared_distances(labels: Labels, centres: Float64, frame: Frame, weights: Float64 | None, block: Block) -> Float64:
    """The weighted squared distance of each row of a block to its centre, in the frame, in float64."""
    here = slice(block.start, block.stop)
    distances = np.empty(block.stop - block.start)
    rows = block.rows()
    for piece in pieces(*rows.shape):
        wide = frame.exact(rows[piece])
        wide -= centres[labels[here][piece]]
        distances[piece] = np.einsum("ij,ij->i", wide, wide)
    if weights is not None:
        distances *= weights[here]
    return distances


def distances(source: Source, centres: Float64, frame: Frame, kind: Kind) -> npt.NDArray[Any]:
    """The distance of each row to each centre, ``[N, K]``."""
    result = np.empty((source.count, len(centres)), dtype="float32" if kind.dtype == "bfloat16" else kind.dtype)
    own = np.einsum("ij,ij->i", centres, centres)
    for block in source.blocks():
        rows = block.rows()
        check_finite(rows.min(), rows.max())
        for piece in pieces(*rows.shape):
            wide = frame.exact(rows[piece])
            cross = wide @ centres.T
            if frame.metric == "cosine":
                part = 1 - cross
            else:
                part = np.einsum("ij,ij->i", wide, wide)[:, None] - 2 * cross + own
                part = np.sqrt(np.maximum(part, 0)) / frame.scale
            result[block.start + piece.start : block.start + piece.stop] = part
    return result
