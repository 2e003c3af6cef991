"""README's table: a row for each of a few results, from several files of this folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(folder: Path) -> str:
    """Return the table.

    Raises:
        FileNotFoundError: If a file of results is missing.
        ValueError: If a row is missing in one.
    """
    rows = [
        ("MNIST, two-layer network, 3 epochs, each optimizer tuned", _tuned(_read(folder, "mnist_two_layer"))),
        ("the same by SGD, each activation tuned", _tuned(_read(folder, "mnist_activations"))),
        (
            "a training step of `train.py` with all defaults, two-layer network, batch 100",
            f"{_cell(folder, 'trainer_overhead', 1, 'scripts/train.py')} x a hand-written loop's time "
            f"(the usual Lightning idiom: {_cell(folder, 'trainer_overhead', 1, 'usual idiom')} x)",
        ),
        (
            "k-means, 1,000,000 x 64, 100 clusters",
            f"faiss.Kmeans takes {_cell(folder, 'kmeans', 1, 'faiss.Kmeans', 2)} x our time, scikit-learn "
            f"{_cell(folder, 'kmeans', 1, 'scikit-learn', 2)} x",
        ),
        ("a step of LAMB on ResNet-50's parameters on an H200", _lamb(_read(folder, "gpu-nvidia-h200"))),
    ]
    return (
        "\n".join(["| task | result |", "| --- | --- |", *(f"| {task} | {result} |" for task, result in rows)]) + "\n"
    )


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, which README's table needs")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _tuned(record: Mapping[str, Any]) -> str:
    """Accuracies of what was tuned, or tunes itself, the best first."""
    untuned = {name for name in record["table"] if f"{name}, tuned" in record["table"]}
    means = {name: row["mean"] for name, row in record["table"].items() if name not in untuned}
    best = sorted(means, key=means.__getitem__, reverse=True)
    shown = ", ".join(f"{name.removesuffix(', tuned')} {100 * means[name]:.1f}" for name in best)
    return f"test accuracy, %: {shown} ({len(record['seeds'])} seeds)"


def _cell(folder: Path, name: str, table: int, row: str, column: int = 1) -> str:
    """The first word of a cell of a benchmark's table: the median, before its quartiles."""
    rows: Sequence[Sequence[str]] = _read(folder, name)["tables"][table - 1]["rows"]
    return _only(found[column].split()[0] for found in rows if found[0].startswith(row))


def _lamb(record: Mapping[str, Any]) -> str:
    rows = [row for row in record["parts"]["optimizers"]["rows"] if "wall_ratio" in row]  # others were skipped
    ratios = {row["name"]: row["wall_ratio"]["median"] for row in rows if row["case"].startswith("resnet50")}
    ours, peer = ratios["LAMB()"], ratios["pytorch-optimizer Lamb"]
    return f"{ours:.2f} x Adam(fused)'s time (the fastest other LAMB measured: {peer:.1f} x)"


def _only(found: Iterator[str]) -> str:
    value = next(found, None)
    if value is None:
        raise ValueError("a row of README's table is missing in the results")
    return value
