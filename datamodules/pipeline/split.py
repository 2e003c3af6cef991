"""A seeded, stratified split into parts whose sizes are set independently."""

import math

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def stratified_split(
    labels: NDArray[np.int64],
    *,
    sizes: dict[str, int | float | None],
    rest: str,
    seed: int = 0,
    class_names: list[str] | None = None,
) -> dict[str, Indices]:
    """Split the examples `0..N-1` into disjoint parts with the same class proportions.

    Parts are drawn in the order of `sizes`, `rest` last, each from the examples that remain. No part depends on the
    size of a later one: the validation set stays the same when the training set is made smaller. The split is a pure
    function of the arguments.

    Args:
        labels: Class of each example, `[N]`.
        sizes: A count of examples or a fraction of N for each part (optional for `rest`). 0 or None: an empty part;
            for `rest`, None: all that remain.
        rest: Name of the part that is drawn last (training).
        seed: Seed of the split, independent of every other seed.
        class_names: Names for error messages.

    Returns:
        The examples of each part in ascending order, int64.

    Raises:
        ValueError: If the parts need more examples than there are, or a class has too few to be in each part.

    >>> labels = np.array([0] * 6 + [1] * 3)
    >>> parts = stratified_split(labels, sizes={"val": 3}, rest="train")
    >>> [labels[part].tolist() for part in parts.values()]
    [[0, 0, 1], [0, 0, 0, 0, 1, 1]]
    """
    total = len(labels)
    counts = {name: _count(name, value, total) for name, value in sizes.items() if name != rest}
    left = total - sum(counts.values())
    rest_size = sizes.get(rest)
    counts[rest] = left if rest_size is None else _count(rest, rest_size, total)
    if counts[rest] > left or left < 0:
        needed = " + ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"the parts need {needed} of {total} examples; make {rest}_size or another part smaller")
    if counts[rest] == 0:
        raise ValueError(f"no example is left for {rest}_size of {total} examples; make the other parts smaller")

    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    classes, inverse = np.unique(labels, return_inverse=True)
    remaining = [generator.permutation(np.flatnonzero(inverse == k)) for k in range(len(classes))]
    nonempty = [name for name, count in counts.items() if count > 0]
    for k, examples in zip(classes, remaining, strict=True):
        if len(examples) < len(nonempty):
            name = class_names[k] if class_names else str(k)
            raise ValueError(
                f"class {name!r} has {len(examples)} example(s), too few to be in each of {', '.join(nonempty)}; "
                "add examples or set the size of a part to 0"
            )
    parts: dict[str, Indices] = {}
    for position, name in enumerate(nonempty):
        available = np.array([len(examples) for examples in remaining])
        quota = _quota(name, counts[name], available, keep=len(nonempty) - position - 1)
        parts[name] = np.sort(np.concatenate([e[:q] for e, q in zip(remaining, quota, strict=True)]))
        remaining = [e[q:] for e, q in zip(remaining, quota, strict=True)]
    empty = np.empty(0, dtype=np.int64)
    return {name: parts.get(name, empty) for name in counts}


def _count(name: str, value: int | float | None, total: int) -> int:
    """Return a size as a number of examples."""
    if value is None:
        return 0
    count = math.floor(value * total + 0.5) if isinstance(value, float) else value
    if not 0 <= count <= total:
        raise ValueError(f"{name}_size needs {count} examples, found {total}; make it smaller")
    if value and not count:
        raise ValueError(f"{name}_size={value} of {total} examples is less than one; make it larger")
    return count


def _quota(name: str, size: int, available: Indices, keep: int) -> Indices:
    """Divide `size` among the classes by largest remainder: at least one each, leaving `keep` for later parts."""
    if size < len(available):
        raise ValueError(
            f"{name}_size={size} is less than the number of classes {len(available)}; each class needs one example"
        )
    exact = size * available / available.sum()
    ceiling = available - keep
    quota = np.clip(np.floor(exact).astype(np.int64), 1, ceiling)
    while quota.sum() != size:
        step = 1 if quota.sum() < size else -1
        free = quota < ceiling if step > 0 else quota > 1
        if not free.any():
            raise ValueError(f"{name}_size={size} leaves too few examples of a class for the other parts; change it")
        # The class furthest from its exact share; the first of equals.
        quota[np.argmax(np.where(free, step * (exact - quota), -np.inf))] += step
    return quota
