"""From the outcomes of the runs to results.json, times.json, the figure and the report."""

import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pytorch_lightning as pl
import torch

from _common.run import flatten, write_json
from _compare.charts import colours
from _compare.curves import Curve, collect, draw, elapsed
from _compare.examples import Predictions, compare_examples, ensemble, read_predictions
from _compare.grid import Axis, Combination
from _compare.report import report
from _compare.runs import Task, outcome
from _compare.statistics import against_baseline, fewer, limits, note, summarize, ties

OTHERS = ("test/accuracy", "test/nll", "test/ece")
"""Metrics shown beside the one that is compared."""
SHARPNESS = "train/top_eigenvalue"
"""A metric shown where the runs have it."""
SPEED = "train/examples_per_second"


def gather(
    axes: Sequence[Axis],
    combinations: Sequence[Combination],
    tasks: Sequence[Task],
    options: Sequence[str],
    metric: str,
    baseline: str,
    tuning: Mapping[str, Any] | None = None,
    vary_split: bool = False,
) -> dict[str, Any]:
    """Return the contents of results.json, which depend neither on time nor on the engine or the number of jobs."""
    settings = {one.name: one.settings for one in combinations}
    runs = [_row(task, settings[task.name]) for task in tasks]
    finished: dict[str, dict[int, dict[str, float]]] = {name: {} for name in settings}
    for run in runs:
        if run["status"] == "finished":
            finished[run["name"]][run["seed"]] = run["metrics"]
    within = limits(metric)
    scores = {name: {seed: values[metric] for seed, values in by_seed.items()} for name, by_seed in finished.items()}
    measured = {key for by_seed in finished.values() for values in by_seed.values() for key in values}
    others = [key for key in OTHERS if key != metric] + [SHARPNESS] * (SHARPNESS in measured)
    tests = against_baseline(scores, baseline, within)
    kept = _predictions(tasks)
    return {
        "axes": {axis.option: list(axis.values) for axis in axes},
        "options": list(options),
        "threads": tasks[0].threads,
        "vary_split": vary_split,
        "tuning": timeless(tuning),
        "seeds": sorted({task.seed for task in tasks}),
        "metric": metric,
        "others": others,
        "baseline": baseline,
        "table": {
            name: summarize(list(scores[name].values()), within)
            | {"others": {key: summarize([one[key] for one in rows.values() if key in one])["mean"] for key in others}}
            for name, rows in finished.items()
        },
        "tests": tests,
        "examples": {name: compare_examples(kept[name], kept[baseline]) for name in kept if name != baseline},
        "ensembles": {name: ensemble(list(by_seed.values())) for name, by_seed in kept.items()},
        "note": note([test["n"] for test in tests.values()]) + fewer(tests) + ties(tests, baseline),
        "runs": runs,
    }


def _predictions(tasks: Sequence[Task]) -> dict[str, dict[int, Predictions]]:
    """Return combination -> seed -> what its run has kept."""
    kept: dict[str, dict[int, Predictions]] = {task.name: {} for task in tasks}
    for task in tasks:
        ended = outcome(task.folder) or {}
        found = read_predictions(task.folder / ended["run"]) if "run" in ended else None
        if found is not None:
            kept[task.name][task.seed] = found
    return kept


def _row(task: Task, settings: Mapping[str, str]) -> dict[str, Any]:
    ended = outcome(task.folder) or {"status": "failed", "error": "it wrote no outcome: see log.txt"}
    row: dict[str, Any] = {"name": task.name, "seed": task.seed, "settings": dict(settings), "status": ended["status"]}
    if ended["status"] != "finished":
        return row | {"error": ended["error"]}
    return row | {"metrics": {name: value for name, value in ended["metrics"].items() if "second" not in name}}


def timeless(tuning: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the trials and choices without what depends on the time."""
    if tuning is None:
        return None
    runs = [{key: value for key, value in run.items() if key != "seconds"} for run in tuning["runs"]]
    return {**tuning, "runs": runs}


def measure(folder: Path, tasks: Sequence[Task], command: str, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of times.json: how long each run took, where, and the command that repeats them."""
    runs = []
    for task in tasks:
        ended = outcome(task.folder) or {}
        run = task.folder / ended["run"] if "run" in ended else None
        seconds = max(elapsed(run / "tensorboard").values(), default=None) if run else None
        runs.append(
            {
                "name": task.name,
                "seed": task.seed,
                "seconds": seconds,
                SPEED: ended.get("metrics", {}).get(SPEED),
                "device": ended.get("device"),
                "folder": str(run.relative_to(folder)) if run else None,
            }
        )
    devices = ", ".join(sorted({run["device"] for run in runs if run["device"]}))
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch-lightning": pl.__version__,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": joblib.cpu_count(),  # those that this process may use
        "device": devices,
    }
    return {"command": command, "environment": environment | dict(how), "runs": runs}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return model[1] if model else platform.processor()


def write_all(
    folder: Path,
    combinations: Sequence[Combination],
    results: Mapping[str, Any],
    times: Mapping[str, Any],
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Write the figure, the report and the two JSON files, and return their names."""
    chosen = colours([one.name for one in combinations])
    configs = {one.name: flatten(one.config) for one in combinations}
    finished = [run for run in times["runs"] if run["folder"]]
    folders = {name: [folder / run["folder"] for run in finished if run["name"] == name] for name in configs}
    curves: dict[str, dict[str, dict[str, Curve]]] = collect(folders, results["metric"])
    files = {"report": "report.html", "results": "results.json", "times": "times.json"}
    if curves:
        quantity = next(iter(curves))
        draw(curves[quantity], quantity, chosen).savefig(folder / "curves.png", dpi=110)
        files["curves"] = "curves.png"
    (folder / "report.html").write_text(report(results, times, configs, curves, chosen, tuning))
    write_json(folder / "times.json", dict(times))
    write_json(folder / "results.json", dict(results) | {"files": files})
    return files
