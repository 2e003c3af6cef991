"""The run that `train.py` works in, and the checks of options that need no data."""

from collections.abc import Sequence

import yaml
from pytorch_lightning.utilities import rank_zero_only

from _common.cli import at_least
from _common.run import Run, check_name, run_of
from _train.command_line import TrainCLI
from _train.export import check_exporter, typed_export
from _train.words import NO_CHECKPOINT
from lightning_modules.runs.weights import read_weights

LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
}
"""The smallest values of options of the Trainer that it does not check."""


def find_run(cli: TrainCLI, words: Sequence[str] = ()) -> Run:
    """Return the run to work in, after all checks that do not need the data."""
    checkpoint, root, name = cli.config.ckpt_path, cli.config.trainer.default_root_dir, cli.config.name
    check_name(name)
    optional = {name: getattr(cli.config, name) for name in ("threads", "figures_every")}
    given = {name: value for name, value in optional.items() if value is not None}
    at_least(1, save_every=cli.config.save_every, **given)
    for option, least in LEAST.items():
        if cli.config.trainer[option] is not None:
            at_least(least, **{f"trainer.{option}": cli.config.trainer[option]})
    if cli.config.trainer.val_check_interval == 0:
        raise ValueError("--trainer.val_check_interval must be positive, found 0: --trainer.limit_val_batches 0 skips")
    if cli.command != "fit":
        if checkpoint is None:
            raise ValueError(NO_CHECKPOINT.format(cli.command))
        if cli.config.export is not None and typed_export(words):
            check_exporter()
        folder = run_of(checkpoint)
        run = Run.to_train(root, None, first_process(), name) if folder is None else Run(folder)
        keep_name(cli, run)
        return run
    if cli.config.init_from is not None:
        _check_init_from(cli.config.init_from, checkpoint)
    if cli.config.export is not None:
        check_exporter()
    run = Run.to_train(root, checkpoint, first_process(), name)
    keep_name(cli, run)
    return run


def _check_init_from(weights: str, checkpoint: str | None) -> None:
    """Refuse other first weights than those with which the checkpoint's run has begun."""
    if checkpoint is None:
        read_weights(weights)
        return
    folder = run_of(checkpoint)
    begun = None if folder is None else (yaml.safe_load((folder / "config.yaml").read_text()) or {}).get("init_from")
    if weights != begun:
        raise ValueError(
            f"--init_from has no effect with --ckpt_path, which has the weights, found {weights}: leave one of them out"
        )


def keep_name(cli: TrainCLI, run: Run) -> None:
    """Refuse another name for a run that is there, which keeps its own."""
    if run.new or not run.config.is_file():
        return
    named = (yaml.safe_load(run.config.read_text()) or {}).get("name")
    if cli.config.name not in (None, named):
        raise ValueError(
            f"--name belongs to a new run, found {cli.config.name!r}: the run in {run.folder} keeps "
            + (f"its name {named!r}" if named else "its folder without a name")
        )
    cli.config.name = named


def first_process() -> bool:
    """Return whether this process, of several, writes the files of the run."""
    return int(vars(rank_zero_only)["rank"]) == 0  # which Lightning has read from the environment
