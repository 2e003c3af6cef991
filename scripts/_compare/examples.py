"""Statistics over the test examples: McNemar's test, a paired bootstrap, and the ensemble of several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from evaluation import calibration_error

Array = npt.NDArray[Any]
FILE = "predictions.npz"
RESAMPLES = 10_000
LEVEL = 0.05


class Predictions(NamedTuple):
    """A run's predictions for the test examples, in their order."""

    labels: Array  # [N]
    predicted: Array  # [N]
    log_probabilities: Array | None  # [N, K]; None for a test split too large to keep them

    @property
    def correct(self) -> Array:
        """Whether each example is classified correctly, bool [N]."""
        right: Array = self.labels == self.predicted
        return right


def read_predictions(run: Path) -> Predictions | None:
    """Return what a run has kept, or None."""
    path = run / FILE
    if not path.is_file():
        return None
    with np.load(path) as file:
        log_probabilities = file["log_probabilities"].astype(float) if "log_probabilities" in file else None
        return Predictions(file["labels"], file["predicted"], log_probabilities)


def mcnemar(first: Array, second: Array) -> dict[str, Any]:
    """Run McNemar's exact test of two classifiers on the same examples (Psychometrika 12, 1947).

    Among the examples that exactly one of them classifies correctly, each is the right one with probability 1/2 if they
    are equally good; p is two-sided, by the binomial distribution.

    Args:
        first: Whether the first classifier is right, bool [N].
        second: The same of the second.

    Example:
        >>> mcnemar(np.array([1, 1, 1, 1, 0]) > 0, np.array([0, 0, 0, 1, 0]) > 0)
        {'only_first': 3, 'only_other': 0, 'p': 0.25}
    """
    only_first, only_other = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_other
    p = float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return {"only_first": only_first, "only_other": only_other, "p": p}


def bootstrap_mean(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of a mean under resampling of the examples with replacement.

    Args:
        values: One value an example, [N].
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    # How often each distinct value is drawn is multinomial, which is quick where few are distinct.
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.quantile(drawn @ distinct / len(values), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def compare_examples(runs: Mapping[int, Predictions], baseline: Mapping[int, Predictions]) -> dict[str, Any] | None:
    """Compare two combinations, seed -> predictions, over the test examples of the seeds that both have.

    Returns:
        `difference` in accuracy, and `low` and `high`, its bootstrap interval over the examples, whose accuracies are
        first averaged over the seeds (None if the seeds have different test examples); `mcnemar`: a test for each
        seed. None without a common seed.
    """
    seeds = sorted(seed for seed in runs.keys() & baseline.keys() if _same_examples(runs[seed], baseline[seed]))
    if not seeds:
        return None
    correct = [(runs[seed].correct, baseline[seed].correct) for seed in seeds]
    tests = {str(seed): mcnemar(*pair) for seed, pair in zip(seeds, correct, strict=True)}
    found: dict[str, Any] = {"seeds": seeds, "mcnemar": tests, "difference": None, "low": None, "high": None}
    if all(_same_examples(runs[seeds[0]], runs[seed]) for seed in seeds):
        each = np.mean([ours.astype(float) - theirs for ours, theirs in correct], axis=0)
        low, high = bootstrap_mean(each)
        found |= {"difference": float(each.mean()), "low": low, "high": high}
    return found


def ensemble(runs: Sequence[Predictions]) -> dict[str, float] | None:
    """Return accuracy, nll and ece of the mean of several runs' class probabilities.

    None for fewer than two runs, without log-probabilities, or if the test examples differ.
    """
    kept = [run.log_probabilities for run in runs if run.log_probabilities is not None]
    if len(runs) < 2 or len(kept) < len(runs) or not all(_same_examples(runs[0], run) for run in runs):
        return None
    labels = runs[0].labels.astype(np.int64)
    log_mean = np.logaddexp.reduce(kept) - np.log(len(runs))
    # Each was rounded to two bytes: together they are 1 up to three digits.
    log_mean = log_mean - np.logaddexp.reduce(log_mean, axis=1, keepdims=True)
    ece = calibration_error(torch.from_numpy(np.exp(log_mean)), torch.from_numpy(labels))
    return {
        "accuracy": float((log_mean.argmax(1) == labels).mean()),
        "nll": float(-log_mean[np.arange(len(labels)), labels].mean()),
        "ece": float(ece),
    }


def _same_examples(first: Predictions, second: Predictions) -> bool:
    """Whether two runs have been tested on the same examples, as far as their labels show."""
    return len(first.labels) == len(second.labels) and bool((first.labels == second.labels).all())
