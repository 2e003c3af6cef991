r"""Compare settings of train.py: every combination with several seeds, a table, tests, curves and a report.

    python scripts/compare.py                                  # three optimizers on digits, two seeds
    python scripts/compare.py --axis optimizer --values LAMB COCOB SAM Adam --seeds 5
    python scripts/compare.py --axis model.activation --values SPOCU Hardshrink ReLU \
        --axis optimizer --values "SGD(lr=0.1)" Adam --config scripts/recipes/mnist_two_layer.yaml

Options that are not compare.py's own are train.py's and hold for all runs. Started again with the same command, an
interrupted comparison goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from _common.command_line import fail, one_line_errors, quiet_lightning
from _common.console import print_files, say
from _common.runs import shell
from _compare.engines import Engine, Processes
from _compare.folder import definition, find_folder, only_one, run_folders
from _compare.grid import Axis, groups, make_grid
from _compare.progress import make_runs, print_results
from _compare.ray import Ray
from _compare.results import announce, gather, measure, write_all
from _compare.runs import Task

DEFAULT_AXIS = Axis("optimizer", ("Adam", "LAMB(lr=0.01)", "COCOB"))
DEFAULT_EPOCHS = 10
AXIS_HELP = "Option of train.py that varies, without its dashes; several --axis ... --values ... make a grid."
VALUES_HELP = (
    'Its values: names, numbers, "SGD(lr=0.1, momentum=0.9)", or "{class_path: SGD, init_args: {lr: 0.1}}". A class '
    "starts from its own defaults, whatever a recipe gives to another class."
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
    """Run every combination with every seed and write down what came out.

    Args:
        axes: What varies.
        options: Words for train.py that all runs share.
        command: What the report says is to be repeated.
        output: Folder for what is written; by default the newest unfinished one of the same comparison under runs/, or
            a new one there.
        seeds: Runs of each combination. More may be asked for later: only the new ones are made.
        seed: The first seed; the others follow it.
        metric: What is compared: a name of a run's results.json.
        baseline: The combination that the others are tested against, by its name in the table; by default the first.
        jobs: Runs at a time on this machine.
        threads: Threads of each run. Fixed, so that the numbers do not depend on jobs and engine.
        engine: processes: on this machine. ray: on a Ray cluster that is running already.
        ray_address: Of the cluster; by default what RAY_ADDRESS says, or the one on this machine.
        ray_gpus: GPUs, or the share of one, that Ray gives to each run.

    Returns:
        What results.json holds.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs), ("threads", threads)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, found {value}")
    combinations = make_grid(axes, options)
    names = [one.name for one in combinations]
    if baseline is not None and baseline not in names:
        raise ValueError(f"--baseline {baseline!r} is none of the combinations: {'; '.join(names)}")
    chosen = range(seed, seed + seeds)
    made: Engine = Ray(ray_address, threads, ray_gpus) if engine == "ray" else Processes(jobs)
    folder = find_folder(output, definition(combinations, threads), chosen, command).absolute()
    with only_one(folder):
        words = {one.name: one.words for one in combinations}
        tasks = [
            Task(name, run_seed, folder / place, words[name], threads, Path.cwd())
            for (name, run_seed), place in run_folders(combinations, chosen).items()
        ]
        announce(folder, combinations, chosen, metric)
        make_runs(tasks, made, metric, folder)
        results = gather(axes, combinations, tasks, options, metric, baseline or names[0])
        how = {"engine": engine, "jobs": jobs if engine == "processes" else "the cluster's", "threads a run": threads}
        files = write_all(folder, combinations, results, measure(folder, tasks, command, how))
    print_results(results)
    print_files(folder, files)
    say(f"{'watch':<11} {shell('tensorboard', '--logdir', folder)}   (Time Series, HParams)")
    failed = [f"{run['name']}, seed {run['seed']}: {run['error']}" for run in results["runs"] if "error" in run]
    if failed:
        fail(RuntimeError(f"{len(failed)} of {len(tasks)} runs failed; the first: {failed[0]}"))
    return results


class Help(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with the examples as they are written."""


def make_parser() -> ArgumentParser:
    """The options of compare.py itself."""
    parser = ArgumentParser(prog="compare.py", description=__doc__, formatter_class=Help, exit_on_error=False)
    parser.add_argument("--axis", metavar="OPTION", help=AXIS_HELP)
    parser.add_argument("--values", dest="axis_values", metavar="VALUE ...", help=VALUES_HELP)
    parser.add_function_arguments(compare, skip={"axes", "options", "command"}, as_group=False)
    return parser


def split_words(words: Sequence[str], own: Sequence[str]) -> tuple[list[str], list[Axis], list[str]]:
    """Divide a command line into compare.py's own options, the axes, and what is train.py's.

    Raises:
        ValueError: If an axis has no values, or values have no axis.
    """
    ours: list[str] = []
    axes: list[Axis] = []
    theirs: list[str] = []
    open_axis: str | None = None
    for option, rest in groups([word for word in words if word != "--"]):
        if option == "axis":
            if open_axis is not None or len(rest) != 1:
                raise ValueError(f"--axis {open_axis or ' '.join(rest)} needs one option and then its --values")
            open_axis = rest[0].lstrip("-")
        elif option == "values":
            if open_axis is None or not rest:
                raise ValueError(f"--values {' '.join(rest)} needs values, and an --axis before it")
            axes.append(Axis(open_axis, rest))
            open_axis = None
        else:
            (ours if option in own else theirs).extend([f"--{option}", *rest])
    if open_axis is not None:
        raise ValueError(f"--axis {open_axis} needs its --values")
    return ours, axes, theirs


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line ``args`` (the process's own by default)."""
    words = list(sys.argv[1:] if args is None else args)
    with one_line_errors(), quiet_lightning():
        parser = make_parser()
        known = [name[2:] for action in parser._actions for name in action.option_strings if name.startswith("--")]
        ours, axes, theirs = split_words(["--help" if word == "-h" else word for word in words], known)
        chosen = vars(parser.parse_args(ours))
        for name in ("axis", "axis_values"):
            chosen.pop(name)
        return compare(axes or [DEFAULT_AXIS], _default_options(theirs, axes), _command(words), **chosen)


def _default_options(theirs: list[str], axes: Sequence[Axis]) -> list[str]:
    """Train.py's digits are trained for a shorter time, unless something is said about data or length."""
    given = [option for option, _ in groups(theirs)] + [axis.option for axis in axes]
    said = {"config", "data", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time"} & set(given)
    return theirs if said else [*theirs, "--trainer.max_epochs", str(DEFAULT_EPOCHS)]


def _command(words: Sequence[str]) -> str:
    return shell("python", "scripts/compare.py", *words)


if __name__ == "__main__":
    main()
