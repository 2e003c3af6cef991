"""Time of temperature scaling and of the calibration error, as ratios to other implementations.

    pip install netcal pyro-ppl gpytorch torch-uncertainty
    python benchmarks/calibration.py

In each round every contender runs once, in random order; its time is divided by ours in the same round, so a ratio of 4
means that the peer takes four times as long. Peers that are not installed are left out. For temperature scaling the
table shows the excess of the loss over the optimum in float64, for the calibration error the difference from a float64
reference on the same input: a peer far from both computes something else.
"""

import contextlib
import importlib
import io
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.calibration import _TemperatureScaling
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._record import write_record
from evaluation import TemperatureScaling, calibration_error

OURS = "ours"
Contender = Callable[[], Any]


def sample(rows: int, classes: int, temperature: float = 1.7) -> tuple[Tensor, Tensor]:
    """Return float32 logits of an overconfident classifier, and labels."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=generator)
    noise = torch.rand(rows, classes, generator=generator).log_().neg_().log_().neg_()  # Gumbel
    return temperature * logits, (logits + noise).argmax(dim=1)


def peer(module: str, name: str) -> Any:
    """Return a peer's class or function; None if it cannot be imported."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, RuntimeError):
            return None


def temperature_contenders(logits: Tensor, labels: Tensor, slow: bool) -> dict[str, Contender]:
    """Return functions that fit a temperature and return it."""
    z, y = logits.numpy(), labels.numpy()
    contenders: dict[str, Contender] = {
        OURS: lambda: TemperatureScaling().fit(logits, labels).temperature_.item(),
        "scikit-learn": lambda: 1 / float(_TemperatureScaling().fit(z, y).beta_),
    }
    uncertainty = peer("torch_uncertainty.post_processing", "TemperatureScaler")
    netcal = peer("netcal.scaling", "TemperatureScaling")
    if uncertainty is not None and slow:

        def fit_uncertainty() -> float:
            data = torch.utils.data.TensorDataset(logits, labels)
            scaler = uncertainty(model=torch.nn.Identity())
            scaler.fit(torch.utils.data.DataLoader(data, batch_size=len(labels)), progress=False)
            return float(scaler.temperature[0])

        contenders["torch-uncertainty"] = fit_uncertainty
    if netcal is not None and slow:

        def fit_netcal() -> float:
            scaler = netcal()
            scaler.fit(logits.double().softmax(1).numpy(), y)
            return 1 / float(np.ravel(scaler.weights)[0])

        contenders["netcal (from probabilities)"] = fit_netcal
    return contenders


def error_contenders(logits: Tensor, labels: Tensor, from_logits: bool, slow: bool) -> dict[str, Contender]:
    """Return functions that compute the calibration error of 15 bins."""
    classes = logits.shape[1]
    preds = logits if from_logits else logits.softmax(1)
    contenders: dict[str, Contender] = {
        OURS: lambda: calibration_error(preds, labels, from_logits=from_logits).item(),
        "torchmetrics": lambda: multiclass_calibration_error(preds, labels, classes, n_bins=15).item(),
        "torchmetrics, validate_args=False": lambda: multiclass_calibration_error(
            preds, labels, classes, n_bins=15, validate_args=False
        ).item(),
    }
    netcal = peer("netcal.metrics", "ECE")
    if netcal is not None and slow and not from_logits:
        p, y = preds.numpy(), labels.numpy()
        contenders["netcal"] = lambda: float(netcal(15).measure(p, y))
    return contenders


def interleaved(
    contenders: dict[str, Contender], rounds: int, clock: str
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each contender in each round, and its result."""
    results = {name: float(run()) for name, run in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    now = time.perf_counter if clock == "wall" else time.process_time
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start = now()
            contenders[name]()
            times[name].append(now() - start)
    return times, results


def loss(logits: np.ndarray, labels: np.ndarray, beta: float) -> float:
    """Return the negative log-likelihood in float64."""
    scaled = logits * beta
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))


def excess_losses(logits: Tensor, labels: Tensor, temperatures: dict[str, float]) -> dict[str, float]:
    """Return the difference between each temperature's loss and the optimum, in float64."""
    z, y = logits.double().numpy(), labels.numpy()
    bounds = (0.5 / temperatures[OURS], 2 / temperatures[OURS])
    best = minimize_scalar(lambda beta: loss(z, y, beta), bounds=bounds, method="bounded", options={"xatol": 1e-7})
    losses = {name: loss(z, y, 1 / temperature) for name, temperature in temperatures.items()}
    optimum = min(float(best.fun), *losses.values())
    return {name: value - optimum for name, value in losses.items()}


def reference_error(preds: Tensor, labels: Tensor, from_logits: bool) -> float:
    """Return the calibration error of 15 bins in float64, by numpy."""
    p = preds.double().softmax(1).numpy() if from_logits else preds.numpy()
    confidence, right = p.max(axis=1).astype(np.float64), p.argmax(axis=1) == labels.numpy()
    bins = np.searchsorted(np.arange(1, 15) / 15, confidence, side="left")
    gaps = np.bincount(bins, confidence, 15) - np.bincount(bins, right, 15)
    return float(np.abs(gaps).sum() / len(labels))


def report(
    title: str, unit: str, times: dict[str, list[float]], accuracy: dict[str, float]
) -> tuple[Table, dict[str, float]]:
    """Print and return a table, and the median ratio of each contender's time to ours."""
    table = Table(title=title)
    for column in ("contender", "ms", "time / ours", "quartiles", unit):
        table.add_column(column, justify="left" if column == "contender" else "right")
    medians = {}
    for name, values in times.items():
        ratios = [value / ours for value, ours in zip(values, times[OURS], strict=True)]
        low, medians[name], high = statistics.quantiles(ratios, n=4)
        milliseconds = f"{1000 * statistics.median(values):.1f}"
        table.add_row(name, milliseconds, f"{medians[name]:.2f}", f"{low:.2f} to {high:.2f}", f"{accuracy[name]:.1e}")
    Console(width=120).print(table)
    return table, medians


def compare(
    sizes: list[tuple[int, int]] | None = None,
    rounds: int = 7,
    threads: int | None = None,
    all_peers: bool = True,
    clock: Literal["wall", "cpu"] = "wall",
    results: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time temperature scaling and the calibration error.

    Args:
        sizes: Rows and classes; by default 10,000 x 10, 50,000 x 1,000 and 1,000,000 x 10.
        rounds: Number of timings of each contender, at least 2.
        threads: Number of CPU threads; torch's default if not given.
        all_peers: Include the slow peers, at 10,000 rows only.
        clock: wall, or cpu for the processor time of all threads, which is less sensitive to other programs.
        results: JSON file to write the tables to, such as results/NAME.json.

    Returns:
        For each table, the median ratio of each contender's time to ours.
    """
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, found {rounds}")
    if threads is not None:
        torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    medians: dict[str, dict[str, float]] = {}
    tables: dict[str, Table] = {}
    for rows, classes in sizes or [(10_000, 10), (50_000, 1_000), (1_000_000, 10)]:
        logits, labels = sample(rows, classes)
        slow = all_peers and rows <= 10_000
        size = f"{rows:,} x {classes:,}, {torch.get_num_threads()} threads, {rounds} rounds, {clock} clock"
        times, scaled = interleaved(temperature_contenders(logits, labels, slow), rounds, clock)
        title = f"temperature scaling, {size}"
        tables[title], medians[title] = report(
            title, "loss above the optimum", times, excess_losses(logits, labels, scaled)
        )
        for from_logits in (True, False):
            times, errors = interleaved(error_contenders(logits, labels, from_logits, slow), rounds, clock)
            preds = logits if from_logits else logits.softmax(1)
            exact = reference_error(preds, labels, from_logits)
            title = f"calibration error from {'logits' if from_logits else 'probabilities'}, {size}"
            differences = {name: abs(value - exact) for name, value in errors.items()}
            tables[title], medians[title] = report(title, "difference from float64", times, differences)
    write_record(results, list(tables.values()))
    return medians


def main(args: list[str] | None = None) -> dict[str, dict[str, float]]:
    return auto_cli(compare, args=args, as_positional=False)


if __name__ == "__main__":
    main()
