"""The plan of a comparison: the seeds, the trials, and the runs of the table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _compare.folder import run_folders
from _compare.grid import Combination
from _compare.runs import Task
from _compare.spaces import Tune, assign
from _compare.tensorboard import shown
from _compare.tuning import FIRST_SEED, Tuning, check_spaces
from lightning_modules.metrics import direction


class Plan(NamedTuple):
    """Seeds and tuning of a comparison."""

    combinations: tuple[str, ...]
    seeds: range
    tuning: Tuning | None
    vary_split: bool

    def definition(self) -> dict[str, Any]:
        """Return what decides the runs beside the combinations, as plain data."""
        tuning = {"tuning": self.tuning.definition()} if self.tuning is not None else {}
        return tuning | ({"vary_split": True} if self.vary_split else {})

    def names(self, defaults: bool) -> list[str]:
        """Return the names in the table, where `defaults` are run too."""
        names = []
        for name in self.combinations:
            tuned = self.tuning is not None and bool(self.tuning.spaces[name])
            names += [f"{name}, tuned"] if tuned else []
            names += [name] if not tuned or defaults else []
        return names


def make_plan(
    combinations: Sequence[Combination],
    tunes: Sequence[Tune],
    seeds: range,
    trials: int,
    select: str | None,
    metric: str,
    vary_split: bool,
) -> Plan:
    """Check everything that can be checked before the first run, and return what is to be run.

    Raises:
        ValueError: If a combination has no space, the direction of the metric is not known, a seed is one of tuning's,
            or the splits cannot be varied.
    """
    if vary_split:
        _check_split(combinations, bool(tunes))
    tuning = None
    if tunes:
        if seeds[-1] >= FIRST_SEED:
            raise ValueError(f"--seed must be below {FIRST_SEED}, from where the trials' seeds are, found {seeds[0]}")
        chosen = select or metric.replace("test/", "val/")
        mode = direction(chosen)
        if select is None and mode is None:
            chosen, mode = "val/nll", "min"
        if mode is None or not chosen.startswith("val/"):
            raise ValueError(f"--select must be a metric of the validation split, as val/accuracy or val/nll: {chosen}")
        tuning = Tuning(assign(combinations, tunes), trials, chosen, mode, seeds[0])
        check_spaces(combinations, tuning)
    return Plan(tuple(one.name for one in combinations), seeds, tuning, vary_split)


def _check_split(combinations: Sequence[Combination], tuned: bool) -> None:
    for one in combinations:
        data = one.config["data"]
        options = data.get("init_args") or {}
        name = data["class_path"].rpartition(".")[2]
        if "split_seed" not in options:
            raise ValueError(f"--vary_split needs data with a split_seed, found {name}")
        if tuned and options.get("test_size") is not None:
            raise ValueError(
                f"--vary_split with --tune needs data with a test set of its own, found {name}: another split would "
                "test examples that the trials have been trained with"
            )


def baseline_of(given: str | None, names: Sequence[str]) -> str:
    """Return the combination to test against: the given one, tuned if it was, or the first."""
    if given is None:
        return names[0]
    found = next((name for name in (f"{given}, tuned", given) if name in names), None)
    if found is None:
        raise ValueError(f"--baseline {given!r} is none of the combinations: {'; '.join(names)}")
    return found


def final_tasks(combinations: Sequence[Combination], plan: Plan, folder: Path, threads: int) -> list[Task]:
    """Return the runs of the table."""
    words = {one.name: one.words for one in combinations}
    varied, tasks = shown(combinations), []
    for (name, seed), place in run_folders(combinations, plan.seeds).items():
        split = ("--data.split_seed", str(seed)) if plan.vary_split else ()
        tasks.append(Task(name, seed, folder / place, (*words[name], *split), threads, Path.cwd(), varied))
    return tasks
