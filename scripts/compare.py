r"""Compare settings of train.py: every combination with several seeds, a table, tests, curves and a report.

    python scripts/compare.py                                  # three optimizers on digits, two seeds
    python scripts/compare.py --axis optimizer --values "LAMB(lr=0.01)" COCOB "SAM(base_optimizer=Adam)" Adam --seeds 5
    python scripts/compare.py --axis model.activation --values "SPOCU(c=1)" Hardshrink ReLU \
        --axis optimizer --values "SGD(lr=0.1)" Adam --config scripts/recipes/mnist_two_layer.yaml

All other options are passed to train.py and apply to every run. The same command resumes an interrupted comparison.
"""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from _common.cli import Option, Parser, at_least, join, split
from _common.console import print_files
from _common.errors import fail, one_line_errors, quiet_lightning
from _common.run import Run, shell
from _compare.engines import Processes
from _compare.folder import definition, find_folder, only_one_comparison, run_folders
from _compare.grid import Axis, make_grid, parse
from _compare.progress import make_runs, print_results
from _compare.ray import Ray
from _compare.results import OTHERS, gather, measure, write_all
from _compare.runs import Task
from _compare.tensorboard import announce, shown

DEFAULT_AXIS = Axis("optimizer", ("Adam", "LAMB(lr=0.01)", "COCOB"))
DEFAULT_EPOCHS = 10
"""Epochs unless data or a length are given; fewer than train.py's."""
AXIS_HELP = "Option of train.py to vary, without dashes; several --axis ... --values ... make a grid."
VALUES_HELP = (
    'Values of the axis: names, numbers, "SGD(lr=0.1, momentum=0.9)", or "{class_path: SGD, init_args: {lr: 0.1}}". '
    "A class starts from its own defaults, not from options that a recipe gives to another class."
)


def compare(
    axes: Sequence[Axis],
    options: Sequence[str],
    command: str,
    output: Path | None = None,
    seeds: int = 2,
    seed: int = 0,
    metric: str = "test/accuracy",
    baseline: str | None = None,
    jobs: int = 1,
    threads: int = 1,
    engine: Literal["processes", "ray"] = "processes",
    ray_address: str | None = None,
    ray_gpus: float = 0.0,
) -> dict[str, Any]:
    """Run every combination with every seed, and write and return the results.

    Args:
        axes: Options to vary, with their values.
        options: Words for train.py that all runs share.
        command: Command line shown in the report.
        output: Output folder; by default that of the same comparison, if unfinished, or a new one under runs/.
        seeds: Number of runs of each combination; raising it later adds only the new runs.
        seed: First random seed; the others follow it.
        metric: Metric to compare, named as in a run's results.json.
        baseline: Combination to test the others against, by its name in the table; by default the first.
        jobs: Number of runs at a time on this machine.
        threads: Number of CPU threads of each run; fixed, because results depend on it slightly.
        engine: Executor of the runs: processes (on this machine) or ray (on a running Ray cluster).
        ray_address: Address of the Ray cluster; by default RAY_ADDRESS, or the cluster on this machine.
        ray_gpus: Number of GPUs for each run on Ray; a fraction shares one.
    """
    at_least(1, seeds=seeds, jobs=jobs, threads=threads)
    combinations = make_grid(axes, options)
    names = [one.name for one in combinations]
    if baseline is not None and baseline not in names:
        raise ValueError(f"--baseline {baseline!r} is none of the combinations: {'; '.join(names)}")
    chosen = range(seed, seed + seeds)
    executor = Ray(ray_address, threads, ray_gpus) if engine == "ray" else Processes(jobs)
    folder = find_folder(output, definition(combinations, threads), chosen, command).absolute()
    with only_one_comparison(folder):
        words = {one.name: one.words for one in combinations}
        tasks = [
            Task(name, run_seed, folder / place, words[name], threads, Path.cwd(), shown(combinations))
            for (name, run_seed), place in run_folders(combinations, chosen).items()
        ]
        announce(folder, combinations, chosen, dict.fromkeys((metric, *OTHERS)))
        make_runs(tasks, executor, metric, folder)
        results = gather(axes, combinations, tasks, options, metric, baseline or names[0])
        how = {"engine": engine, "jobs": jobs if engine == "processes" else "the cluster's", "threads a run": threads}
        files = write_all(folder, combinations, results, measure(folder, tasks, command, how))
    print_results(results)
    print_files(folder, files)
    Run(folder).watch(tab="Time Series, HParams")
    failed = [f"{run['name']}, seed {run['seed']}: {run['error']}" for run in results["runs"] if "error" in run]
    if failed:
        fail(ValueError(f"{len(failed)} of {len(tasks)} runs failed; the first: {failed[0]}"))
    return results


GIVEN: set[str | int] = {"axes", "options", "command"}
"""Parameters of `compare` that are not options of their own."""
OWN = {"help", *inspect.signature(compare).parameters} - GIVEN


def divide(options: Sequence[Option]) -> tuple[list[Option], list[Axis], list[Option]]:
    """Divide a command line into compare.py's own options, the axes, and train.py's options."""
    ours: list[Option] = []
    axes: list[Axis] = []
    theirs: list[Option] = []
    pending: str | None = None
    for name, words in options:
        if name == "axis":
            if pending is not None or len(words) != 1:
                raise ValueError(f"--axis {pending or ' '.join(words)} needs one option and then its --values")
            pending = words[0].lstrip("-")
        elif name == "values":
            if pending is None or not words:
                raise ValueError(f"--values {' '.join(words)} needs values, and an --axis before it")
            axes.append(Axis(pending, words))
            pending = None
        else:
            (ours if name in OWN else theirs).append(Option(name, words))
    if pending is not None:
        raise ValueError(f"--axis {pending} needs its --values")
    return ours, axes, theirs


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line `args` (the process's own by default)."""
    words = list(sys.argv[1:] if args is None else args)
    with one_line_errors(split(words)[1]), quiet_lightning():
        ours, axes, theirs = divide(parse([word for word in words if word != "--"]))
        names = [option.name for option in ours]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"--{twice[0].replace('_', '-')} is given twice: give it once")
        foreign = [axis.option for axis in axes if axis.option in OWN - {"seed", "seeds"}]
        if foreign:
            raise ValueError(f"--axis must be an option of train.py, found {foreign[0]}, which is one of compare.py")
        parser = Parser(__doc__)
        parser.add_argument("--axis", metavar="OPTION", help=AXIS_HELP)
        parser.add_argument("--values", dest="axis_values", metavar="VALUE ...", help=VALUES_HELP)
        parser.add_function_arguments(compare, skip=GIVEN, as_group=False)
        chosen = {name: value for name, value in vars(parser.parse_args(join(ours))).items() if name in OWN}
        command = shell("python", "scripts/compare.py", *words)
        given = {option.name for option in theirs} | {axis.option for axis in axes}
        if not given & {"config", "data", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time"}:
            theirs.append(Option("trainer.max_epochs", (str(DEFAULT_EPOCHS),)))
        return compare(axes or [DEFAULT_AXIS], join(theirs), command, **chosen)


if __name__ == "__main__":
    main()
