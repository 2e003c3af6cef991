"""The loss on the line between two trained networks, and on a plane through both.

A point of the plane is `a + x (b - a) + y d`, with weights a and b and a direction d: random, orthogonal to b - a, and
as long. Running means and variances of normalisation layers move along the line from a to b, and no further. The
barrier is how far the loss on the line is above the chord between its ends (Frankle, Dziugaite, Roy and Carbin 2020,
https://arxiv.org/abs/1912.05671).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def check_same_network(first: nn.Module, second: nn.Module, names: Sequence[str]) -> None:
    """Refuse two networks whose weights cannot be mixed.

    Raises:
        ValueError: If a layer or the shape of a weight differs.
    """
    layers = [{path: layer for path, layer in network.named_modules() if path} for network in (first, second)]
    for path in dict.fromkeys([*layers[0], *layers[1]]):
        found = [_layer(one[path]) if path in one else "no such layer" for one in layers]
        if found[0] != found[1]:
            raise ValueError(
                f"the networks differ: {path} is {found[0]} in {names[0]} and {found[1]} in {names[1]}; "
                "give two checkpoints of the same network"
            )
    states = first.state_dict(), second.state_dict()
    for key in dict.fromkeys([*states[0], *states[1]]):
        shapes = [list(state[key].shape) if key in state else "missing" for state in states]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the networks differ: {key} is {shapes[0]} in {names[0]} and {shapes[1]} in {names[1]}; "
                "give two checkpoints of the same network"
            )


def _layer(layer: nn.Module) -> str:
    """Return a layer's class and, without layers of its own, its options; those of dropout do not matter here."""
    plain = next(layer.children(), None) is None and not isinstance(layer, nn.Dropout)
    return f"{type(layer).__name__}({layer.extra_repr()})" if plain else type(layer).__name__


@torch.no_grad()
def between(model: nn.Module, other: State, losses: Callable[[], Sequence[float]], points: int, seed: int) -> Any:
    """Return the losses on the line and the plane through a network and another state of it.

    Args:
        model: The first network, which is restored.
        other: State of the second network.
        losses: Computes numbers of the model, such as training and test loss; the first is drawn over the plane.
        points: Number of points along each side of the plane.
        seed: Seed of the plane's other direction.

    Returns:
        `line`, the multiples (0 is the first network, 1 the second), `losses`, a list for each number, `barriers`, one
        for each, `x` and `y`, the multiples of the plane, `plane`, the first number over it, by rows of y, and
        `distance` of the two networks.
    """
    start = {name: value.clone() for name, value in model.state_dict().items()}
    weights = dict(model.named_parameters())
    line = np.linspace(-0.5, 1.5, 4 * max(1, points // 2) + 1)
    step = {name: other[name].to(start[name]) - start[name] for name in weights}
    side = _orthogonal(step, seed)
    x, y = np.linspace(-0.5, 1.5, points), np.linspace(-1, 1, points)

    def at(along: float, across: float) -> Sequence[float]:
        inside = min(max(along, 0.0), 1.0)
        for name, value in model.state_dict().items():
            if name in weights:
                value.copy_(start[name] + along * step[name] + across * side[name])
            elif value.is_floating_point():
                value.copy_(start[name] + inside * (other[name].to(value) - start[name]))
        return losses()

    try:
        rows = np.array([at(float(t), 0.0) for t in line])
        plane = [[at(float(a), float(b))[0] for a in x] for b in y]
    finally:
        for name, value in model.state_dict().items():
            value.copy_(start[name])
    ends = [int(np.abs(line - end).argmin()) for end in (0.0, 1.0)]
    within = slice(ends[0], ends[1] + 1)
    chord = np.outer(1 - line[within], rows[ends[0]]) + np.outer(line[within], rows[ends[1]])
    return {
        "line": line.tolist(),
        "losses": rows.T.tolist(),
        "barriers": (rows[within] - chord).max(0).tolist(),
        "x": x.tolist(),
        "y": y.tolist(),
        "plane": plane,
        "distance": float(torch.cat([one.flatten() for one in step.values()]).norm()),
    }


def _orthogonal(step: State, seed: int) -> State:
    """Return a random direction, orthogonal to another one and of its length."""
    generator = torch.Generator().manual_seed(seed)
    random = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for n, v in step.items()}
    inner = sum(float((random[name] * value).sum()) for name, value in step.items())
    square = sum(float(value.square().sum()) for value in step.values())
    if square:
        random = {name: value - inner / square * step[name] for name, value in random.items()}
    length = sum(float(value.square().sum()) for value in random.values()) ** 0.5
    return {name: value * (square**0.5 / length) for name, value in random.items()}
