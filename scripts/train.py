"""Train, validate, test an image classifier, or predict with it, on any data set of the house.

    python scripts/train.py                                     # digits, no download
    python scripts/train.py fit --config scripts/recipes/mnist_two_layer.yaml
    python scripts/train.py --data MNISTDataModule --model.backbone TwoLayerNet --optimizer AdamW --optimizer.lr 1e-3
    python scripts/train.py --ckpt_path last                    # go on with the newest run
    python scripts/train.py test --ckpt_path runs/.../checkpoints/best.ckpt

Without a subcommand it means ``fit``: train, test the best checkpoint, write the run's ``results.json``.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.console import Console
from rich.table import Table

from _common.command_line import one_line_errors, quiet_lightning
from _common.names import YAML_WITH_NAMES
from _common.runs import new_run, run_of, shell, write_json
from _train.arguments import ROOT, prepare
from _train.export import check_exporter, export_onnx
from evaluation.callbacks import CalibrationMonitor, MistakesMonitor
from lightning_modules import ImageClassifier
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.prediction_csv import PredictionCSV
from lightning_modules.callbacks.progress import TrainingProgress
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.hooks import Unprofiled, skip_unused_hooks
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO, load_matching, read_checkpoint
from lightning_modules.runs.loggers import CSVLog, TensorBoardLog

EXPECTED = (
    r".*smaller than the logging interval",  # small data sets have fewer batches than a logging window
    r".*across ranks is zero",  # data without a validation split
    r"Couldn't infer the batch indices",  # the prediction file counts by itself
    r"Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its folder
    r".*callbacks used to create the checkpoint need to be provided",  # test and predict need none of them
)
"""What Lightning warns of, as regular expressions, although it is meant so here."""


class TrainCLI(LightningCLI):
    """The command line of ``scripts/train.py``: a LightningCLI with runs, resuming, results and short names."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        modes = {"parser_mode": YAML_WITH_NAMES, "exit_on_error": False}
        super().__init__(
            ImageClassifier,
            pl.LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs=modes | {name: dict(modes) for name in self.subcommands()},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a LightningCLI does not have: optimizers at the top level, checkpoints, exports."""
        parser.set_defaults({"trainer.default_root_dir": ROOT})
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")
        parser.link_arguments("data.image_shape", "model.image_shape", apply_on="instantiate")
        parser.add_argument("--optimizer", type=OptimizerCallable | None, help="Short name or class of the optimizer.")
        parser.add_argument(
            "--lr_scheduler", type=LRSchedulerCallable | None, help="Short name or class of the schedule."
        )
        parser.link_arguments("optimizer", "model.optimizer")
        parser.link_arguments("lr_scheduler", "model.lr_scheduler")
        parser.add_lightning_class_args(TrainingMonitor, "monitor")
        parser.add_argument("--monitor_metric", default="val/nll", help="What the best checkpoint is best in.")
        parser.add_argument("--monitor_mode", type=Literal["max", "min"], default="min", help="Whether more is better.")
        parser.add_argument("--save_every", type=int, default=200, help="Optimizer steps between two last checkpoints.")
        parser.add_argument("--init_from", type=str | None, help="Checkpoint whose weights training starts from.")
        parser.add_argument("--export", type=Literal["onnx"] | None, help="Write the trained network in this format.")
        parser.add_argument("--log_graph", type=bool, default=False, help="Write the network's graph for TensorBoard.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, with ``fit`` for no subcommand, short names, and ``last`` made a path."""
        self.config = parser.parse_args(prepare(self.arguments))

    def _parse_ckpt_path(self) -> None:
        """Nothing: the run's config.yaml says how its model was built, not only its hyperparameters."""

    def _option(self, name: str) -> Any:
        return self.config[self.config.subcommand][name]

    def before_instantiate_classes(self) -> None:
        """Find the run's folder, and every mistake that can be found before the data is read."""
        checkpoint, self.resumed = self._option("ckpt_path"), False
        run = run_of(checkpoint) if checkpoint else None
        if self.subcommand != "fit":
            if checkpoint is None:
                raise ValueError(
                    f"{self.subcommand} needs a trained network: add --ckpt_path FILE, or --ckpt_path last"
                )
            self.run_folder = run or new_run(self._option("trainer.default_root_dir"))
            return
        self.resumed = run is not None and Path(checkpoint).name == "last.ckpt"
        self.run_folder = run if run is not None and self.resumed else new_run(self._option("trainer.default_root_dir"))
        if self._option("init_from") is not None:
            read_checkpoint(self._option("init_from"))
        if self._option("export") is not None:
            check_exporter()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the Trainer with the run's loggers, callbacks and checkpoints."""
        trainer_config = self._get(self.config_init, "trainer")
        own = [*(trainer_config.get("callbacks") or []), CalibrationMonitor(), MistakesMonitor()]
        if trainer_config.get("enable_progress_bar") is not False and self.subcommand == "fit":
            own.append(TrainingProgress())
        if self.subcommand == "predict":
            own.append(PredictionCSV(self.run_folder / "predictions.csv", self.datamodule.classes))
        kwargs.setdefault("enable_progress_bar", self.subcommand == "fit" and trainer_config.get("enable_progress_bar"))
        kwargs.setdefault("enable_model_summary", trainer_config.get("enable_model_summary") or False)
        checkpoints = self._checkpoints() if self._saves(trainer_config) else []
        kwargs.setdefault("callbacks", own + checkpoints)
        kwargs.setdefault("enable_checkpointing", bool(checkpoints))
        self.checkpoint_io = AtomicCheckpointIO()
        kwargs.setdefault("plugins", [*(trainer_config.get("plugins") or []), self.checkpoint_io])
        if trainer_config.get("logger") in (None, True):
            kwargs.setdefault("logger", self._loggers() if self.subcommand == "fit" else False)
        if trainer_config.get("profiler") is None:
            kwargs.setdefault("profiler", Unprofiled())
        trainer = super().instantiate_trainer(**kwargs)
        self.callbacks: list[pl.Callback] = list(vars(trainer)["callbacks"])
        for callback in self.callbacks:
            skip_unused_hooks(callback)
        return trainer

    def _saves(self, trainer_config: Any) -> bool:
        wanted = trainer_config.get("enable_checkpointing") is not False and not trainer_config.get("fast_dev_run")
        return self.subcommand == "fit" and wanted

    def _checkpoints(self) -> list[pl.Callback]:
        folder = self.run_folder / "checkpoints"
        last = LastCheckpoint(folder / "last.ckpt", self._option("save_every"))
        if not getattr(self.datamodule, "val_size", True):
            return [last]  # without a validation split there is nothing to choose the best by
        best = ModelCheckpoint(
            folder,
            filename="best",
            monitor=self._option("monitor_metric"),
            mode=self._option("monitor_mode"),
            save_on_train_epoch_end=False,  # what is saved there does not resume exactly
            enable_version_counter=False,
        )
        return [best, last]

    def _loggers(self) -> list[Any]:
        step = read_checkpoint(self._option("ckpt_path"))["global_step"] if self.resumed else None
        tensorboard = TensorBoardLog(self.run_folder / "tensorboard", step, self._option("log_graph"))
        return [tensorboard, CSVLog(self.run_folder / "metrics.csv")]

    def fit(self, model: ImageClassifier, **kwargs: Any) -> None:
        """Train, then test the best weights and write down what came out."""
        self._save_config()
        if self._option("log_graph"):
            model.example_input_array = torch.zeros(1, *model.hparams["image_shape"])
        if self._option("init_from") is not None and kwargs.get("ckpt_path") is None:
            skipped = load_matching(model, read_checkpoint(self._option("init_from"))["state_dict"])
            report(f"weights from {self._option('init_from')}" + (f", but not {', '.join(skipped)}" if skipped else ""))
        try:
            self.trainer.fit(model, **kwargs | {"weights_only": True})
        except SIGTERMException:
            report(f"stopped by SIGTERM; go on with\n  {self._resume_command()}")
            raise SystemExit(143) from None
        except SystemExit:  # what Lightning makes of Ctrl-C
            report(f"interrupted; go on from the last checkpoint with\n  {self._resume_command()}")
            raise SystemExit(130) from None
        except BaseException:
            self._remove_empty_run()
            raise
        if not self._option("trainer.fast_dev_run"):
            self._finish(model)

    def _finish(self, model: ImageClassifier) -> None:
        best = next((c.best_model_path for c in self.callbacks if isinstance(c, ModelCheckpoint)), "")
        best = best if Path(best).is_file() else ""  # a full disk may have refused it
        speed = next(c.examples_per_second for c in self.callbacks if isinstance(c, TrainingMonitor))
        self.trainer.loggers, loggers = [], self.trainer.loggers  # the curves end with the training
        metrics = self.trainer.test(model, self.datamodule, ckpt_path=best or None, verbose=False, weights_only=True)[0]
        results: dict[str, Any] = {name: metrics[name] for name in sorted(metrics)}
        results["train/examples_per_second"] = speed
        results["parameters"] = sum(p.numel() for p in model.parameters())
        if self._option("export") == "onnx":
            export_onnx(model, self.run_folder / "model.onnx")
        self._write_results(results, loggers, best)
        failed = [f"{path} is not the newest: {reason}" for path, reason in self.checkpoint_io.failed.items()]
        if failed:
            raise OSError("; ".join(failed))

    @rank_zero_only
    def _write_results(self, results: dict[str, Any], loggers: list[Any], best: str) -> None:
        write_json(self.run_folder / "results.json", results)
        for logger in loggers:
            final = {f"final/{name}": value for name, value in results.items() if name != "parameters"}
            logger.log_hyperparams(self._flat_config(), final)
            logger.save()
        print_table("best checkpoint on the test split" if best else "last weights on the test split", results)
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"run         {self.run_folder}")
        console.print(f"watch       {shell('tensorboard', '--logdir', self.run_folder.parent)}")
        if not self._saves(self.config["fit"]["trainer"]):
            return
        tested = self.run_folder / "checkpoints" / ("best.ckpt" if best else "last.ckpt")
        console.print(f"train on    {self._resume_command()} --trainer.max_epochs N")
        console.print(f"test again  {self._command()} test --ckpt_path {shell(tested)}")

    def validate(self, model: ImageClassifier, **kwargs: Any) -> None:
        """Validate a checkpoint."""
        self._evaluate("validate", model, **kwargs)

    def test(self, model: ImageClassifier, **kwargs: Any) -> None:
        """Test a checkpoint."""
        self._evaluate("test", model, **kwargs)

    def predict(self, model: ImageClassifier, **kwargs: Any) -> None:
        """Write a checkpoint's predictions for the test split into the run's ``predictions.csv``."""
        self.trainer.predict(model, **kwargs | {"return_predictions": False, "weights_only": True})
        report(f"predictions {self.run_folder / 'predictions.csv'}")

    def _evaluate(self, name: str, model: ImageClassifier, **kwargs: Any) -> None:
        splits = getattr(self.trainer, name)(model, **kwargs | {"verbose": False, "weights_only": True})
        metrics = {key: value for split in splits for key, value in split.items()}
        if self.trainer.is_global_zero:
            write_json(self.run_folder / f"{name}.json", metrics)
            print_table(str(kwargs["ckpt_path"]), metrics)

    @rank_zero_only
    def _save_config(self) -> None:
        path = self.run_folder / "config.yaml"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            text = self._parser("fit").dump(self.config["fit"], skip_none=False, format="yaml")
            path.write_text(text)

    def _flat_config(self) -> dict[str, Any]:
        config = self.config["fit"].clone()
        chosen = {key: config[key] for key in ("seed_everything", "data", "model", "optimizer", "lr_scheduler")}
        return flatten(chosen) | {"max_epochs": config["trainer.max_epochs"], "max_steps": config["trainer.max_steps"]}

    @rank_zero_only
    def _remove_empty_run(self) -> None:
        """A run that failed before its first checkpoint leaves nothing behind."""
        if self.resumed or any(self.run_folder.glob("checkpoints/*.ckpt")):
            return
        for path in sorted(self.run_folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        if self.run_folder.exists():
            self.run_folder.rmdir()

    @staticmethod
    def _command() -> str:
        return shell("python", os.path.relpath(__file__))

    def _resume_command(self) -> str:
        return f"{self._command()} fit --ckpt_path {shell(self.run_folder / 'checkpoints' / 'last.ckpt')}"


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested configuration as ``a.b.c`` -> plain value."""
    if hasattr(config, "as_dict"):
        config = config.as_dict()
    if not isinstance(config, dict):
        return {prefix: config if isinstance(config, (int, float, str, bool)) else str(config)}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, prefix if key == "init_args" else f"{prefix}.{key}" if prefix else key)
    return flat


@rank_zero_only
def report(message: str) -> None:
    """Print to the terminal, on rank 0."""
    print(message, flush=True)


def print_table(title: str, metrics: dict[str, Any]) -> None:
    """Print metrics as a table."""
    table = Table("metric", "value", title=title, title_justify="left")
    for name, value in metrics.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:,.4f}")
    Console().print(table)


def main(args: list[str] | None = None) -> TrainCLI:
    """Run the command line ``args`` (the process's own by default)."""
    with one_line_errors(), quiet_lightning(*EXPECTED):
        return TrainCLI(sys.argv[1:] if args is None else list(args))


if __name__ == "__main__":
    main()
