"""From the outcomes of the runs to results.json, times.json, the figure and the report."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from _common.run import flatten, write_json
from _compare.charts import colours
from _compare.curves import Curve, collect, draw, elapsed
from _compare.grid import Axis, Combination
from _compare.report import report
from _compare.runs import Task, outcome
from _compare.statistics import against_baseline, note, summarize
from _compare.tensorboard import write_experiment

OTHERS = ("test/accuracy", "test/nll", "test/ece")
"""Metrics shown beside the one that is compared."""
SPEED = "train/examples_per_second"


def gather(
    axes: Sequence[Axis],
    combinations: Sequence[Combination],
    tasks: Sequence[Task],
    options: Sequence[str],
    metric: str,
    baseline: str,
) -> dict[str, Any]:
    """Return the contents of results.json, which depend neither on time nor on the engine or the number of jobs."""
    settings = {one.name: one.settings for one in combinations}
    runs = [_row(task, settings[task.name]) for task in tasks]
    names, seeds = list(settings), sorted({task.seed for task in tasks})
    metrics_of = {name: {run["seed"]: run["metrics"] for run in _finished(runs, name)} for name in names}
    scores = {name: {seed: values[metric] for seed, values in by_seed.items()} for name, by_seed in metrics_of.items()}
    others = [key for key in OTHERS if key != metric]
    tests = against_baseline(scores, baseline)
    return {
        "axes": {axis.option: list(axis.values) for axis in axes},
        "options": list(options),
        "threads": tasks[0].threads,
        "seeds": seeds,
        "metric": metric,
        "others": others,
        "baseline": baseline,
        "table": {
            name: summarize(list(scores[name].values())) | {"others": _means(metrics_of[name].values(), others)}
            for name in names
        },
        "tests": tests,
        "note": note(min((test["n"] for test in tests.values() if test["n"]), default=0), len(tests)),
        "runs": runs,
    }


def _row(task: Task, settings: Mapping[str, str]) -> dict[str, Any]:
    ended = outcome(task.folder) or {"status": "failed", "error": "it wrote no outcome: see log.txt"}
    row: dict[str, Any] = {"name": task.name, "seed": task.seed, "settings": dict(settings), "status": ended["status"]}
    if ended["status"] != "finished":
        return row | {"error": ended["error"]}
    return row | {"metrics": {name: value for name, value in ended["metrics"].items() if name != SPEED}}


def _finished(runs: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [run for run in runs if run["name"] == name and run["status"] == "finished"]


def _means(rows: Any, names: Sequence[str]) -> dict[str, float | None]:
    rows = list(rows)
    return {name: summarize([row[name] for row in rows if name in row])["mean"] for name in names}


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
    return {"command": command, "environment": environment() | {"device": devices, **how}, "runs": runs}


def environment() -> dict[str, Any]:
    """Return the versions and the machine."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch-lightning": pl.__version__,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_all(
    folder: Path, combinations: Sequence[Combination], results: Mapping[str, Any], times: Mapping[str, Any]
) -> dict[str, str]:
    """Write the figure, the report and the two JSON files, and return their names."""
    chosen = colours([one.name for one in combinations])
    configs = {one.name: flatten(one.config) for one in combinations}
    folders: dict[str, list[Path]] = {one.name: [] for one in combinations}
    for run in times["runs"]:
        if run["folder"]:
            folders[run["name"]].append(folder / run["folder"])
    curves: dict[str, dict[str, dict[str, Curve]]] = collect(folders, results["metric"])
    files = {"report": "report.html", "results": "results.json", "times": "times.json"}
    if curves:
        quantity = next(iter(curves))
        draw(curves[quantity], quantity, chosen).savefig(folder / "curves.png", dpi=110)
        files["curves"] = "curves.png"
    (folder / "report.html").write_text(report(results, times, configs, curves, chosen))
    write_json(folder / "times.json", dict(times))
    write_json(folder / "results.json", dict(results) | {"files": files})
    return files


def announce(folder: Path, combinations: Sequence[Combination], seeds: Sequence[int], metric: str) -> None:
    """Write the settings that vary for TensorBoard."""
    configs = [flatten(one.config) for one in combinations]
    named = dict.fromkeys(key for one in combinations for key in one.varied)
    settings = {key: [config[key] for config in configs if key in config] for key in named}
    columns = {key: values for key, values in settings.items() if values}
    write_experiment(folder, columns | {"seed_everything": list(seeds)}, dict.fromkeys((metric, *OTHERS)))
