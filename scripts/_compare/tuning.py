"""Tuning with equal budgets: the same number of trials for each combination, chosen by a validation metric.

Trial i is a function of the seed and i alone, so that a killed study continues and any executor can make it. No trial
reads the test split, and none is stopped early. What is chosen is trained again with fresh seeds.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from _common.cli import join
from _common.errors import one_line
from _common.run import flatten, write_json
from _compare.curves import elapsed
from _compare.engines import Processes
from _compare.folder import plain_names
from _compare.grid import Combination, Faults, configured, parse
from _compare.progress import make_runs
from _compare.ray import Ray
from _compare.runs import Task, outcome
from _compare.space import Space
from _compare.spaces import tuned_words
from _compare.tensorboard import shown

FILE = "tuning.json"
FIRST_SEED = 1_000_000
"""Trials are trained with seeds from here on, the table's runs with smaller ones."""


@dataclass(frozen=True)
class Tuning:
    """How combinations are tuned."""

    spaces: Mapping[str, Mapping[str, Space]]  # combination -> option -> space; without options it tunes itself
    trials: int  # of each combination
    metric: str  # of the validation split
    mode: str  # max or min
    seed: int  # of the study

    def definition(self) -> dict[str, Any]:
        """Return what decides the trials, as plain data."""
        spaces = {name: {option: space.text for option, space in own.items()} for name, own in self.spaces.items()}
        return {
            "spaces": spaces,
            "trials": self.trials,
            "metric": self.metric,
            "mode": self.mode,
            "seed": self.seed,
        }


def trial_values(spaces: Mapping[str, Space], seed: int, trial: int) -> dict[str, str]:
    """Return the values of a trial: a point of a scrambled Sobol sequence, by one dimension an option.

    Example:
        >>> from _compare.space import read_space
        >>> spaces = {"optimizer.lr": read_space("1e-4..1e-1 log")}
        >>> [trial_values(spaces, 0, trial) for trial in range(2)]
        [{'optimizer.lr': '0.00169765'}, {'optimizer.lr': '0.0182323'}]
    """
    points = qmc.Sobol(len(spaces), scramble=True, seed=np.random.default_rng(seed))
    point = points.random_base2(max(trial, 1).bit_length())[trial]
    return {option: space.at(float(place)) for (option, space), place in zip(spaces.items(), point, strict=True)}


def trial_words(one: Combination, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command line of a trial, which ends with the validation split and leaves the test split unread."""
    options = parse(one.words)
    own = {"evaluate_on": "val", "keep_predictions": "false", "sharpness": "0"}
    if any(option.name == "data.watch_test" for option in options):
        own["data.watch_test"] = "false"
    return tuple(join(tuned_words(options, {**values, **own})))


def check_spaces(combinations: Sequence[Combination], tuning: Tuning) -> None:
    """Build what a trial would train at both ends of each combination's spaces.

    Raises:
        Faults: One line for each combination that cannot be made there.
    """
    faults: dict[str, str] = {}
    for one in combinations:
        spaces = tuning.spaces[one.name]
        try:
            for place in (0.0, 1.0) if spaces else ():
                configured(trial_words(one, {option: space.at(place) for option, space in spaces.items()}))
        except Exception as error:
            faults.setdefault(one_line(error), one.name)
    if faults:
        raise Faults([f"{name}, tuned: {fault}" for fault, name in faults.items()])


def trial_tasks(combinations: Sequence[Combination], tuning: Tuning, folder: Path, threads: int) -> list[Task]:
    """Return the runs of all trials."""
    places = plain_names([one.name for one in combinations])
    tasks = []
    for trial in range(tuning.trials):
        for one in combinations:
            if not (spaces := tuning.spaces[one.name]):
                continue
            words = trial_words(one, trial_values(spaces, tuning.seed, trial))
            place = folder / "trials" / places[one.name] / f"trial-{trial}"
            seed = FIRST_SEED + tuning.seed + trial
            varied = shown([one._replace(varied=(*one.varied, *spaces))])
            tasks.append(Task(one.name, seed, place, words, threads, Path.cwd(), varied, trial=trial))
    return tasks


def tune(
    combinations: Sequence[Combination], tuning: Tuning, folder: Path, threads: int, engine: Processes | Ray
) -> dict[str, Any]:
    """Make the trials and choose; return and keep what tuning.json holds, which later runs do not change."""
    path = folder / FILE
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    tasks = trial_tasks(combinations, tuning, folder, threads)
    make_runs(tasks, engine, tuning.metric, folder, "trials")
    trials = [_row(task, tuning) for task in tasks]
    chosen = {name: choose([row for row in trials if row["name"] == name], tuning) for name in tuning.spaces}
    record = tuning.definition() | {
        "defaults": {one.name: _defaults(one, tuning.spaces[one.name]) for one in combinations},
        "chosen": {name: row for name, row in chosen.items() if row is not None},
        "self_tuning": [name for name, spaces in tuning.spaces.items() if not spaces],
        "runs": trials,
    }
    write_json(path, record)
    return record


def _row(task: Task, tuning: Tuning) -> dict[str, Any]:
    ended = outcome(task.folder) or {"status": "failed", "error": "it wrote no outcome: see log.txt"}
    values = trial_values(tuning.spaces[task.name], tuning.seed, task.trial or 0)
    row = {"name": task.name, "trial": task.trial, "seed": task.seed, "values": values, "status": ended["status"]}
    if "run" in ended:
        row["seconds"] = max(elapsed(task.folder / ended["run"] / "tensorboard").values(), default=None)
    if ended["status"] != "finished":
        return row | {"value": None, "error": ended["error"]}
    value = ended["metrics"].get(tuning.metric, math.nan)
    return row | {"value": value if math.isfinite(value) else None}


def choose(trials: Sequence[Mapping[str, Any]], tuning: Tuning) -> dict[str, Any] | None:
    """Return the best trial of a combination, with the ends of the spaces that it is at; None without trials.

    A trial that failed or has no finite value is never chosen; of equal ones the first is.

    Raises:
        ValueError: If no trial can be chosen.
    """
    if not trials:
        return None
    finite = [trial for trial in trials if trial["value"] is not None]
    if not finite:
        name, error = trials[0]["name"], trials[0].get("error", f"{tuning.metric} is not finite")
        raise ValueError(f"{name}: each of {len(trials)} trials failed, the first: {error}; choose another space")
    best = (max if tuning.mode == "max" else min)(finite, key=lambda trial: trial["value"])
    spaces = tuning.spaces[best["name"]]
    edges = {option: spaces[option].edge(value) for option, value in best["values"].items()}
    return {
        "trial": best["trial"],
        "values": best["values"],
        "value": best["value"],
        "edges": {option: end for option, end in edges.items() if end is not None},
    }


def _defaults(one: Combination, spaces: Mapping[str, Space]) -> dict[str, Any]:
    """Return the values that a combination has without tuning."""
    flat = {key.replace(".init_args", ""): value for key, value in flatten(one.config).items()}
    return {option: flat.get(option) for option in spaces}


def final(combinations: Sequence[Combination], record: Mapping[str, Any], defaults: bool) -> list[Combination]:
    """Return the combinations of the table: tuned, or tuning themselves; with `defaults`, the untuned ones too."""
    made = []
    for one in combinations:
        best = record["chosen"].get(one.name)
        if best is not None:
            words = tuple(join(tuned_words(parse(one.words), best["values"])))
            varied = tuple(dict.fromkeys((*one.varied, *best["values"])))
            made.append(Combination(f"{one.name}, tuned", one.settings, words, configured(words), varied))
        if best is None or defaults:
            made.append(one)
    return made
