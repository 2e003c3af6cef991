r"""Compare settings of train.py: every combination with several seeds, a table, tests, curves and a report.

    python scripts/compare.py                                  # three optimizers on digits, two seeds
    python scripts/compare.py --axis optimizer --values "LAMB(lr=0.01)" COCOB "SAM(base_optimizer=Adam)" Adam --seeds 5
    python scripts/compare.py --axis model.activation --values "SPOCU(c=1)" Hardshrink ReLU \
        --axis optimizer --values "SGD(lr=0.1)" Adam --config scripts/recipes/mnist_two_layer.yaml
    python scripts/compare.py --axis optimizer --values SGD Adam COCOB --tune spaces --trials 8 --seeds 5

With --tune each combination gets the same number of trials; the best by a validation metric is trained again with
fresh seeds, and only then the test split is read. --spaces prints the spaces that are shipped. A study is a YAML file
of options (--study FILE).

All other options are passed to train.py and apply to every run. The same command resumes an interrupted comparison.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from _common.cli import Option, Parser, at_least, join, split, value_of
from _common.console import plain, print_files
from _common.errors import fail, one_line_errors, quiet_lightning
from _common.run import Run, shell
from _compare.engines import Processes
from _compare.folder import definition, find_folder, only_one_comparison
from _compare.grid import Axis, Faults, make_grid, parse
from _compare.progress import make_runs, print_results
from _compare.protocol import baseline_of, final_tasks, make_plan
from _compare.ray import Ray
from _compare.record import write_record
from _compare.results import OTHERS, gather, measure, write_all
from _compare.spaces import Tune, print_spaces, read_tune
from _compare.study import read_study
from _compare.target import add_targets, print_targets
from _compare.target import parse as read_target
from _compare.tensorboard import announce
from _compare.tuning import final, tune

DEFAULT_AXIS = Axis("optimizer", ("Adam", "LAMB(lr=0.01)", "COCOB"))
DEFAULT_EPOCHS = 10
"""Epochs unless data or a length are given; fewer than train.py's."""
AXIS_HELP = "Option of train.py to vary, without dashes; several --axis ... --values ... make a grid."
VALUES_HELP = (
    'Values of the axis: names, numbers, "SGD(lr=0.1, momentum=0.9)", or "{class_path: SGD, init_args: {lr: 0.1}}". '
    "A class starts from its own defaults, not from options that a recipe gives to another class."
)
TUNE_HELP = (
    'Option to tune and its space: "1e-4..1e-1 log", "0..0.9", "1..8 int", "16..256 log int" or "{x, y, z}"; for one '
    'value of an axis "LAMB: optimizer.lr"; "COCOB: none" for a method that tunes itself; or the word spaces, for the '
    "optimizers' shipped ones. Several are tuned together."
)


def compare(
    axes: Sequence[Axis],
    options: Sequence[str],
    command: str,
    tunes: Sequence[Tune] = (),
    output: Path | None = None,
    seeds: int = 2,
    seed: int = 0,
    metric: str = "test/accuracy",
    baseline: str | None = None,
    target: str | None = None,
    trials: int = 8,
    select: str | None = None,
    defaults: bool = False,
    vary_split: bool = False,
    results: Path | None = None,
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
        tunes: Options to tune, with their spaces.
        output: Output folder; by default that of the same comparison, if unfinished, or a new one under runs/.
        seeds: Number of runs of each combination; raising it later adds only the new runs.
        seed: First random seed; the others follow it.
        metric: Metric to compare, named as in a run's results.json.
        baseline: Combination to test the others against, by its name in the table; by default the first.
        target: Metric and one value or more, such as "val/accuracy 0.95 0.97": what each run has spent when it first
            reaches them.
        trials: Number of trials of each combination with --tune.
        select: Validation metric that chooses among the trials; by default that of --metric, or val/nll.
        defaults: Also run each tuned combination with the values that it has without tuning.
        vary_split: Draw another split of the data with each seed.
        results: File to write the whole record to, such as results/STUDY.json.
        jobs: Number of runs at a time on this machine.
        threads: Number of CPU threads of each run; fixed, because results depend on it slightly.
        engine: Executor of the runs: processes (on this machine) or ray (on a running Ray cluster).
        ray_address: Address of the Ray cluster; by default RAY_ADDRESS, or the cluster on this machine.
        ray_gpus: Number of GPUs for each run on Ray; a fraction shares one.
    """
    at_least(1, seeds=seeds, jobs=jobs, threads=threads, trials=trials)
    targets = [] if target is None else read_target(target)
    combinations = make_grid(axes, options)
    plan = make_plan(combinations, tunes, range(seed, seed + seeds), trials, select, metric, vary_split)
    baseline_of(baseline, plan.names(defaults))
    executor = Ray(ray_address, threads, ray_gpus) if engine == "ray" else Processes(jobs)
    defined = definition(combinations, threads) | plan.definition()
    folder = find_folder(output, defined, plan.seeds, command).absolute()
    with only_one_comparison(folder):
        tuned = tune(combinations, plan.tuning, folder, threads, executor) if plan.tuning is not None else None
        finals = final(combinations, tuned, defaults) if tuned is not None else combinations
        tasks = final_tasks(finals, plan, folder, threads)
        announce(folder, finals, plan.seeds, dict.fromkeys((metric, *OTHERS)))
        make_runs(tasks, executor, metric, folder)
        against = baseline_of(baseline, [one.name for one in finals])
        table = gather(axes, finals, tasks, options, metric, against, tuned, vary_split)
        how = {"engine": engine, "jobs": jobs if engine == "processes" else "the cluster's", "threads a run": threads}
        times = measure(folder, tasks, command, how)
        add_targets(targets, folder, table, times)
        files = write_all(folder, finals, table, times, tuned)
        if results is not None:
            write_record(results, table, times)
    print_results(table)
    print_targets(times)
    print_files(folder, files)
    Run(folder).watch(tab="Time Series, HParams")
    failed = [f"{run['name']}, seed {run['seed']}: {run['error']}" for run in table["runs"] if "error" in run]
    if failed:
        fail(ValueError(f"{len(failed)} of {len(tasks)} runs failed; the first: {failed[0]}"))
    return table


GIVEN: set[str | int] = {"axes", "options", "command", "tunes"}
"""Parameters of `compare` that are not options of their own."""
OWN = {"help", *inspect.signature(compare).parameters} - GIVEN


class Divided(NamedTuple):
    """The parts of a command line."""

    ours: list[Option]  # of compare.py
    axes: list[Axis]
    tunes: list[Tune]
    theirs: list[Option]  # of train.py


def divide(options: Sequence[Option]) -> Divided:
    """Divide a command line."""
    ours: list[Option] = []
    tunes: list[Tune] = []
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
        elif name == "tune":
            tunes.append(read_tune(words))
        else:
            (ours if name in OWN else theirs).append(Option(name, words))
    if pending is not None:
        raise ValueError(f"--axis {pending} needs its --values")
    switches = {"defaults", "vary_split"}  # which may stand without a value
    ours = [Option(name, words or ("true",)) if name in switches else Option(name, words) for name, words in ours]
    return Divided(ours, axes, tunes, theirs)


def main(args: list[str] | None = None) -> dict[str, Any]:
    """Run the command line `args` (the process's own by default)."""
    words = list(sys.argv[1:] if args is None else args)
    with one_line_errors(split(words)[1]), quiet_lightning(), one_line_each():
        options = parse([word for word in words if word != "--"])
        if any(option.name == "spaces" for option in options):
            return print_spaces()
        if (study := value_of("study", options)) is not None:
            options = read_study(Path(study), [option for option in options if option.name != "study"])
        ours, axes, tunes, theirs = divide(options)
        names = [option.name for option in ours]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"--{twice[0].replace('_', '-')} is given twice: give it once")
        foreign = [axis.option for axis in axes if axis.option in OWN - {"seed", "seeds"}]
        if foreign:
            raise ValueError(f"--axis must be an option of train.py, found {foreign[0]}, which is one of compare.py")
        idle = [name for name in names if name in ("trials", "select", "defaults") and not tunes]
        if idle:
            raise ValueError(f"--{idle[0]} belongs to tuning: add --tune OPTION SPACE")
        chosen = {name: value for name, value in vars(parser().parse_args(join(ours))).items() if name in OWN}
        command = shell("python", "scripts/compare.py", *words)
        given = {option.name for option in theirs} | {axis.option for axis in axes}
        if not given & {"config", "data", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time"}:
            theirs.append(Option("trainer.max_epochs", (str(DEFAULT_EPOCHS),)))
        return compare(axes or [DEFAULT_AXIS], join(theirs), command, tunes, **chosen)


def parser() -> Parser:
    """Return the parser of compare.py's own options; the first ones are for the help only."""
    made = Parser(__doc__)
    made.add_argument("--axis", metavar="OPTION", help=AXIS_HELP)
    made.add_argument("--values", dest="axis_values", metavar="VALUE ...", help=VALUES_HELP)
    made.add_argument("--tune", dest="tune_words", metavar="[VALUE:] OPTION SPACE", help=TUNE_HELP)
    made.add_argument("--spaces", action="store_true", help="Print the shipped spaces of optimizers.")
    made.add_argument("--study", metavar="FILE", help="YAML file of options; those that are typed replace its own.")
    made.add_function_arguments(compare, skip=GIVEN, as_group=False)
    return made


@contextmanager
def one_line_each() -> Iterator[None]:
    """Print all but the last of several mistakes, which is then reported as every other."""
    try:
        yield
    except Faults as faults:
        for line in faults.others:
            print(f"error: {plain(line)}", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
