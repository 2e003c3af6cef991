"""Train, validate or test an image classifier, or predict with it, on any of the data modules.

    python scripts/train.py                                     # digits, no download
    python scripts/train.py fit --config scripts/recipes/mnist_two_layer.yaml
    python scripts/train.py --data MNISTDataModule --model.backbone TwoLayerNet --optimizer AdamW --optimizer.lr 1e-3
    python scripts/train.py --ckpt_path last                    # continue the newest run
    python scripts/train.py test --ckpt_path runs/.../checkpoints/best.ckpt

Commands: fit (the default: train, test the best checkpoint, write results.json), validate, test, predict.

    python scripts/train.py fit --help                          # every option
    python scripts/train.py --data.help MNISTDataModule         # the options of one data set, network or optimizer
    python scripts/train.py --model.backbone.help MLP
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from pytorch_lightning.callbacks import BatchSizeFinder, EarlyStopping, Timer
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.model_helpers import is_overridden

from _common.cli import split
from _common.console import print_rows, say
from _common.errors import one_line, one_line_errors, quiet_lightning
from _common.run import Run, shell, write_json
from _common.trust import keep_trust, trusting
from _train.command_line import TrainCLI
from _train.export import export_onnx, typed_export
from _train.find_run import find_run, first_process
from _train.prediction import write_unreadable
from _train.settings import log_settings
from _train.size import size
from _train.start import AtStart
from _train.warm_up import warm_up
from lightning_modules.callbacks.best_checkpoint import BestCheckpoint
from lightning_modules.callbacks.stop_signals import StopSignals
from lightning_modules.callbacks.train_clock import TrainClock
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.runs.unsaved_state import has_stopped
from lightning_modules.runs.weights import load_matching, read_weights

EXPECTED = (
    r".*smaller than the logging interval",  # it is checked before the interval is fitted to the epoch
    r"`max_epochs` was not set",  # which the start says
    r".*across ranks is zero",  # data without a validation split
    r"Couldn't infer the batch indices",  # the prediction file counts by itself
    r"Checkpoint directory .* exists and is not empty",  # a resumed run continues in its folder
    r"The provided params to be frozen already exist",  # the head, which BackboneFinetuning unfreezes with the rest
    r".*callbacks used to create the checkpoint need to be provided",  # test and predict need none of them
)
"""Lightning warnings that are expected here, as regular expressions."""


def main(args: list[str] | None = None, shown: Sequence[str] = ()) -> TrainCLI:
    """Run the command line `args` (the process's own by default); `shown` are the options that a comparison varies."""
    words = list(sys.argv[1:] if args is None else args)
    if words[:1] in (["-h"], ["--help"]):
        print(__doc__)
        raise SystemExit(0)
    with one_line_errors(split(words)[1]), quiet_lightning(*EXPECTED):
        cli = TrainCLI(words)  # parses
        run = find_run(cli, words)
        with ending(cli, run, words), run.only_trainer() if cli.command == "fit" and first_process() else nullcontext():
            cli.build(run)  # builds data, network and trainer
            if cli.command == "fit":
                fit(cli, shown)
            elif cli.command == "predict":
                predict(cli)
            else:
                metrics = evaluate(cli, cli.command, cli.config.ckpt_path)
                rank_zero_only(write_json)(run.folder / f"{cli.command}.json", metrics)
                rank_zero_only(print_metrics)(cli.config.ckpt_path, metrics)
                if typed_export(words):
                    rank_zero_only(export)(cli)
        return cli


def fit(cli: TrainCLI, shown: Sequence[str] = ()) -> None:
    """Train, test the best weights, and write the results."""
    split = cli.config.evaluate_on
    if split == "val" and not getattr(cli.datamodule, "val_size", True):
        raise ValueError("--evaluate_on val needs a validation part, found --data.val_size 0")
    rank_zero_only(cli.run.remove_half_written)()
    if cli.run.resumed:  # a resume that fails before its first step leaves the run as it was
        vars(cli.trainer)["callbacks"].append(AtStart(lambda: rank_zero_only(save_settings)(cli)))
    else:
        rank_zero_only(save_settings)(cli)
    if cli.config.init_from is not None and cli.config.ckpt_path is None:
        skipped = load_matching(cli.model, read_weights(cli.config.init_from))
        rank_zero_only(say)(
            f"weights from {cli.config.init_from}"
            + (f", except {', '.join(skipped[:6])}" if skipped else "")
            + (f" and {len(skipped) - 6} more" if len(skipped) > 6 else "")
        )
    if cli.config.lr_range_test:
        from _train.lr_range_test import lr_range_test  # with `evaluation`, which the help does not need

        return lr_range_test(cli)
    if cli.config.warm_up:
        warm_up(cli, cli.config.warm_up)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    more = further(cli)  # before the test, which loads the callbacks' states of its checkpoint
    for one in cli.callbacks:
        if isinstance(one, EarlyStopping) and has_stopped(one, cli.trainer.callback_metrics):
            rank_zero_only(say)(f"stopped early: {one.stopping_reason_message}")
    if cli.config.ckpt_path is not None and not cli.resuming.steps:
        rank_zero_only(say)(f"nothing is left to train at step {cli.trainer.global_step}: add {more}")
    signals = next(c for c in cli.callbacks if isinstance(c, StopSignals))
    if signals.noted:  # after the last step
        signals.end(signals.noted)
    if cli.config.trainer.fast_dev_run:
        return
    saved = [str(c.path) for c in cli.callbacks if isinstance(c, BestCheckpoint) and c.path.is_file()]
    best = next(iter(saved), "")  # a full disk may have refused it
    speed = next(c.speed.totals for c in cli.callbacks if isinstance(c, TrainingMonitor))
    clock = next(c for c in cli.callbacks if isinstance(c, TrainClock))
    train_seconds = clock.train_seconds
    cli.trainer.loggers, loggers = [], cli.trainer.loggers  # the curves end with the training
    vars(cli.trainer)["callbacks"] = [one for one in cli.callbacks if not isinstance(one, BatchSizeFinder)]
    untrained = cli.config.ckpt_path if not cli.resuming.steps else None  # its average, not the weights beside it
    metrics = evaluate(cli, "test" if split == "test" else "validate", best or untrained)
    results: dict[str, Any] = {name: metrics[name] for name in sorted(metrics)}
    if cli.config.sharpness:
        from _train.sharpness import sharpness  # which few runs need

        results |= sharpness(cli.model, cli.datamodule, cli.config.sharpness)
    results |= speed | {"train_seconds": train_seconds + clock.test_seconds}
    results |= size(cli.model)
    missing: list[str] = []
    if cli.config.export == "onnx" and first_process():
        with noting_refusal(missing):
            export(cli)
    with noting_refusal(missing):
        rank_zero_only(write_json)(cli.run.folder / "results.json", results)
    rank_zero_only(log_settings)(cli, shown, results, loggers)
    rank_zero_only(print_end)(cli, results, best, more)
    missing += [f"{path} is not the newest: {reason}" for path, reason in cli.checkpoint_io.failed.items()]
    if missing:
        raise OSError(f"the run has ended, but not all was written: {'; '.join(missing)}")


def save_settings(cli: TrainCLI) -> None:
    """Write config.yaml, and that this user has started the run."""
    cli.run.save_config(cli.config_text())
    keep_trust(cli.run.folder)


@contextmanager
def noting_refusal(missing: list[str]) -> Iterator[None]:
    """Note what the disk refuses."""
    try:
        yield
    except OSError as error:
        missing.append(one_line(error))


def predict(cli: TrainCLI) -> None:
    """Write the predictions of the network for every example."""
    data: Any = cli.datamodule
    if not is_overridden("predict_dataloader", data):  # somebody's own data module
        data.prepare_data()
        data.setup("test")
        data = data.test_dataloader()
    cli.trainer.predict(cli.model, data, return_predictions=False, ckpt_path=cli.config.ckpt_path, weights_only=True)
    rank_zero_only(say)(f"predictions {cli.run.folder / 'predictions.csv'}")
    skipped, listed = getattr(cli.trainer.predict_dataloaders, "unreadable", {}), cli.run.folder / "unreadable.csv"
    if skipped:
        rank_zero_only(write_unreadable)(listed, skipped)
        rank_zero_only(say)(f"left out    {listed}")
    else:
        rank_zero_only(listed.unlink)(missing_ok=True)  # of another folder's predictions


def export(cli: TrainCLI) -> None:
    """Write model.onnx, and print where it is."""
    path = cli.run.folder / "model.onnx"
    export_onnx(cli.model, path, cli.datamodule)
    say(f"export      {path}")


def further(cli: TrainCLI) -> str:
    """Return the option with which an ended training goes further."""
    metrics = cli.trainer.callback_metrics
    if any((one.time_remaining() or 1) <= 0 for one in cli.callbacks if isinstance(one, Timer)):
        return "--trainer.max_time null"
    if cli.trainer.global_step == cli.trainer.max_steps:
        return "--trainer.max_steps N"
    if any(isinstance(one, EarlyStopping) and has_stopped(one, metrics) for one in cli.callbacks):
        return "--trainer.callbacks.patience N"
    return "--trainer.max_epochs N"


@contextmanager
def ending(cli: TrainCLI, run: Run, words: list[str]) -> Iterator[None]:
    """Print how to continue what a signal has stopped, and remove a new run that ends before anything is trained."""
    before = signal.getsignal(signal.SIGTERM)
    catch = before == signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    try:
        if catch:
            signal.signal(signal.SIGTERM, terminate)
        yield
    except (SystemExit, KeyboardInterrupt) as stop:
        rank_zero_only(run.remove_if_empty)()
        if isinstance(stop, SIGTERMException):
            code, how, way = 143, "stopped by SIGTERM", "continue with"
        elif isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt):
            code, how, way = 130, "interrupted", "continue from the last checkpoint with"
        else:
            raise
        if words[:1] in (["validate"], ["test"], ["predict"]) or not run.checkpoint("last").is_file():
            line = f"{how}; start again with\n  {command()} {shell(*words)}"
        else:
            line = f"{how}; {way}\n  {resume_command(run)}"
        rank_zero_only(say)(line)
        # The launcher kills all processes when one of its own ends with another code than 0.
        raise SystemExit(code if first_process() else 0) from None
    except BaseException:
        rank_zero_only(run.remove_if_empty)(has_trained(cli))
        raise
    finally:
        if catch:
            signal.signal(signal.SIGTERM, before)


def has_trained(cli: TrainCLI) -> bool:
    """Return whether more than the start of a training, which is the first window of the log, is saved or logged."""
    if "trainer" not in vars(cli):
        return False
    saved = any(getattr(callback, "saved_step", 0) > 0 for callback in cli.callbacks)
    return saved or 0 < vars(cli.trainer)["log_every_n_steps"] < cli.trainer.global_step


def terminate(number: int, frame: Any) -> None:
    """End on SIGTERM where no Trainer is at work."""
    raise SIGTERMException


def evaluate(cli: TrainCLI, command: str, checkpoint: str | None) -> dict[str, float]:
    """Return the metrics of `test` or `validate`."""
    run = getattr(cli.trainer, command)
    splits = run(cli.model, cli.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
    return {name: value for split in splits for name, value in split.items()}


def print_end(cli: TrainCLI, results: dict[str, Any], best: str, more: str) -> None:
    """Print the results and the commands to run next."""
    print_metrics(f"{'best checkpoint' if best else 'last weights'} on the {cli.config.evaluate_on} split", results)
    say(f"run         {cli.run.folder}")
    cli.run.watch(cli.run.folder.parent)
    if cli.saves:
        tested = cli.run.checkpoint("best" if best else "last")
        say(f"continue    {resume_command(cli.run)} {more}")
        say(f"test again  {command()} test --ckpt_path {shell(tested, *trusting(cli.run.folder))}")


def print_metrics(title: str, metrics: dict[str, Any]) -> None:
    """Print a row a metric."""
    print_rows(title, {name: {"value": value} for name, value in metrics.items()}, "metric")


def command() -> str:
    """Return how this script is called from the working directory."""
    return shell("python", os.path.relpath(__file__))


def resume_command(run: Run) -> str:
    """Return the command that continues a run."""
    return f"{command()} fit --ckpt_path {shell(run.checkpoint('last'), *trusting(run.folder))}"


if __name__ == "__main__":
    main()
