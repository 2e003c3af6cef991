"""The command line of `train.py`, and the data, network and trainer that it describes."""

import functools
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateFinder,
    LearningRateMonitor,
    ProgressBar,
    StochasticWeightAveraging,
    ThroughputMonitor,
)
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.plugins.precision import DoublePrecision
from pytorch_lightning.utilities import rank_zero_only

from _common.cli import ShortHelp, at_home, command_of
from _common.console import say
from _common.names import YAML_WITH_NAMES, known
from _common.rebuild import with_classifier
from _common.run import ROOT, Run, flatten, run_of
from _common.threads import set_threads
from _train.figures import figure_callbacks
from _train.kept_predictions import KeepPredictions
from _train.options import add_options
from _train.prediction import network_of, one_process, predicts_folder
from _train.start import PrintStart
from _train.words import choose_classifier, complete
from lightning_modules.backbones.pretrained import weights_follow
from lightning_modules.callbacks.best_checkpoint import BestCheckpoint
from lightning_modules.callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.callbacks.log_interval import FitLogInterval
from lightning_modules.callbacks.prediction_csv import PredictionCSV
from lightning_modules.callbacks.progress import TrainingProgress
from lightning_modules.callbacks.resume_as_typed import ResumeAsTyped
from lightning_modules.callbacks.stop_signals import StopSignals
from lightning_modules.callbacks.train_clock import TrainClock
from lightning_modules.callbacks.training_monitor import TrainingMonitor
from lightning_modules.metrics import direction
from lightning_modules.runs.checkpoint_io import AtomicCheckpointIO
from lightning_modules.runs.reading import read_checkpoint
from lightning_modules.training_loop import use_lean_steps

FACTORIES = ("optimizer", "lr_scheduler", "model.backbone", "model.activation")
PATHS = ("ckpt_path", "init_from", "trainer.default_root_dir")
COMMANDS = ("fit", "validate", "test", "predict")
OPTIMIZER_HELP = (
    "Optimizer: LAMB, COCOB, SAM, Muon, a name of torch.optim or timm.optim, or a class. --optimizer.help NAME lists "
    "its options."
)
TRUST_HELP = (
    "Packages, separated by commas, that a checkpoint and its run's config.yaml may name; what you type needs no trust."
)
SCHEDULER_HELP = "Learning rate schedule: a name of torch.optim.lr_scheduler, a class, or a text as for --schedule."
SCHEDULE_HELP = (
    'Schedule as a text: "warmup 5%, cosine"; parts are warmup, constant, linear and cosine, each with a length (5%, '
    "500 steps, 10 epochs) and a level (warmup from 1%, constant at 1%, linear to 1%, cosine to 1%)."
)
TITLES = {
    "data": "Data, with its options as --data.OPTION",
    "model": "Network and loss (--model.backbone.help NAME and --model.activation.help NAME list their options)",
    "monitor": "Training curves",
    "trainer": "Lightning's Trainer",
}
OF_TRAINING = (Checkpoint, DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor)
"""Callbacks that Lightning refuses without checkpoints or loggers, which only a training has."""
_UNSEEN = ("ckpt_path", "name", "resume_optimizer", "trust", "trainer.default_root_dir", "trainer.enable_progress_bar")
set_parsing_settings(config_read_mode_fsspec_enabled=False)  # Lightning's: a string may be a file on any server
register_type(torch.device)  # the default of Lightning's averaging callbacks, written as its name


class Parser(ShortHelp, LightningArgumentParser):
    """The parser of train.py."""

    def dump(self, cfg: Any, *args: Any, **kwargs: Any) -> str:
        """Return a configuration as YAML, with the names that jsonargparse takes for objects it cannot write."""
        config = cfg.clone()
        names = {key: config.get(key) for key in FACTORIES if isinstance(config.get(key), str)}
        for key in names:
            config[key] = None
        written = yaml.safe_load(super().dump(config, *args, **kwargs))
        for key, name in names.items():
            *parents, last = key.split(".")
            functools.reduce(lambda node, parent: node[parent], parents, written)[last] = name
        return yaml.safe_dump(written, sort_keys=False)


class TrainCLI(LightningCLI):
    """The parsed command line of train.py; `build` makes the data, the network and the trainer of it."""

    def __init__(self, words: list[str]) -> None:
        self.command, rest = command_of(words, COMMANDS, "fit")
        typed = rest
        rest, self.classifier = choose_classifier(complete(self.command, rest))
        self.of_folder = predicts_folder(self.command, rest, typed)
        super().__init__(
            self.classifier,
            pl.LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={
                "parser_mode": YAML_WITH_NAMES,
                "exit_on_error": False,
                "allow_abbrev": False,
                "usage": f"train.py {self.command} [options]",
                "description": None,
            },
            args=rest,
            run=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our options, the ones asked for most first."""
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            help="Checkpoint to continue or to evaluate: a file, or last (of the newest run).",
        )
        parser.add_argument("--name", type=str | None, help="Name of a new run: its folder is runs/<time>-NAME.")
        parser.add_argument(
            "--resume_optimizer", type=bool, default=True, help="Continue with the state of the checkpoint's optimizer."
        )
        parser.add_argument("--trust", type=str | None, help=TRUST_HELP)
        parser.add_argument("--optimizer", type=OptimizerCallable | str | None, help=OPTIMIZER_HELP)
        parser.add_argument("--lr_scheduler", type=LRSchedulerCallable | str | None, help=SCHEDULER_HELP)
        parser.add_argument("--schedule", type=str | None, help=SCHEDULE_HELP)
        parser.add_argument("--seed_everything", type=bool | int, default=0, help="Random seed; true draws one.")
        parser.add_argument("--monitor_metric", default="val/nll", help="Metric that selects the best checkpoint.")
        parser.add_argument(
            "--monitor_mode", type=Literal["max", "min"] | None,
            help="Which direction of the metric is better; that of our own metrics is known.",
        )  # fmt: skip
        parser.add_argument("--save_every", type=int, default=200, help="Optimizer steps between writes of last.ckpt.")
        parser.add_argument("--init_from", type=str | None, help="Initialise the weights from this checkpoint.")
        parser.add_argument("--export", type=Literal["onnx"] | None, help="Format to write the trained network in.")
        parser.add_argument(
            "--matmul_precision", type=Literal["highest", "high", "medium"], default="highest",
            help="Precision of float32 matrix products on a GPU: highest is float32, high TensorFloat-32.",
        )  # fmt: skip
        parser.add_argument(
            "--fast_loop", type=bool, default=True, help="Skip those of Lightning's calls that do nothing in a step."
        )
        add_options(parser)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add data, network and trainer, Lightning's long list last."""
        names = ", ".join(known("data"))
        parser.add_subclass_arguments(
            pl.LightningDataModule, "data", required=True, fail_untyped=False, metavar="NAME",
            help=f"Data module: {names}, or a class. --data.help NAME lists its options.",
        )  # fmt: skip
        if self.of_folder:
            options: dict[str, Any] = {"fail_untyped": False, "instantiate": False, "sub_configs": True}
            parser.add_class_arguments(self.classifier, "model", **options)
        else:
            parser.add_lightning_class_args(self.classifier, "model")
        parser.add_lightning_class_args(TrainingMonitor, "monitor")
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        for name, group in (parser.groups or {}).items():
            group.title = TITLES.get(name, group.title)
        parser.set_defaults({"trainer.default_root_dir": ROOT})
        if not self.of_folder:
            parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")
            parser.link_arguments("data.image_shape", "model.image_shape", apply_on="instantiate")
        parser.link_arguments("optimizer", "model.optimizer")
        parser.link_arguments("lr_scheduler", "model.lr_scheduler")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse completed words, and expand `~` in the paths of configuration files."""
        self.config = parser.parse_args(args)
        if not 0 <= int(self.config.seed_everything) < 2**32:
            raise ValueError(f"--seed_everything must be 0 to {2**32 - 1}, found {self.config.seed_everything}")
        if self.config.sharpness < 0:
            raise ValueError(f"--sharpness must be 0 or more examples, found {self.config.sharpness}")
        for key in PATHS:
            if isinstance(self.config[key], str):
                self.config[key] = at_home(self.config[key])

    def instantiate_classes(self) -> None:
        """Wait for `build`, which knows the run."""

    def build(self, run: Run) -> None:
        """Make data, network and trainer."""
        self.run = run
        torch.set_float32_matmul_precision(self.config.matmul_precision)
        set_threads(self.config.threads)
        if self.config.matmul_precision != "highest":
            rank_zero_only(say)(f"float32 matrix products have precision {self.config.matmul_precision}")
        with weights_follow(self.config.ckpt_path is not None):
            super().instantiate_classes()
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.model.double()  # before a checkpoint is loaded, not after it, as Lightning does
        if self.command == "fit" and self.config.log_graph:
            self.model.example_input_array = torch.zeros(1, *self.model.hparams["image_shape"])

    def config_text(self) -> str:
        """Return the whole configuration as config.yaml holds it."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_unset=False, format="yaml"))
        if "run" in vars(self) and self.run.resumed:  # compare.py asks before there is a run
            config["ckpt_path"] = None
        config = with_classifier(config, self.classifier)
        return f"# pytorch_lightning=={pl.__version__}\n{yaml.safe_dump(config, sort_keys=False)}"

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the Trainer with the run's loggers, callbacks and checkpoints."""
        if self.of_folder:
            self.model = network_of(self.config.ckpt_path, self.classifier, self.config.trust)
        given, fits = self.config_init["trainer"], self.command == "fit"
        own = self.own_callbacks(given.get("callbacks") or [])
        callbacks = [*own, *figure_callbacks(self.config)]
        bars = any(isinstance(callback, ProgressBar) for callback in own)
        if given.get("enable_progress_bar") is not False and fits and not bars:
            callbacks.append(TrainingProgress())
        self.resuming = ResumeAsTyped(self.config.resume_optimizer, rank_zero_only(say), self.changes())
        if fits:
            # Before the user's, which may give the optimizer further groups.
            callbacks[:0] = [PrintStart(self.config.evaluate_on == "test"), TrainClock(), self.resuming]
            if self.config.keep_predictions:
                callbacks.append(KeepPredictions(self.run.folder / "predictions.npz"))
            if given.get("log_every_n_steps") is None:
                callbacks.insert(0, FitLogInterval())
        if self.command == "predict":
            classes = None if self.of_folder else getattr(self.datamodule, "classes", None)
            callbacks.append(PredictionCSV(self.run.folder / "predictions.csv", classes))
            kwargs |= one_process(given)
        averages = any(isinstance(callback, StochasticWeightAveraging) for callback in own)
        checkpoints = self.checkpoints(averages) if self.saves else []
        if not checkpoints:
            callbacks.append(StopSignals())
        self.checkpoint_io = AtomicCheckpointIO()
        kwargs |= {
            "callbacks": callbacks + checkpoints,
            "enable_checkpointing": bool(checkpoints),
            "enable_progress_bar": fits and given.get("enable_progress_bar"),
            "enable_model_summary": given.get("enable_model_summary") or False,
            "plugins": [*(given.get("plugins") or []), self.checkpoint_io],
        }
        if given.get("benchmark") is None and not given.get("deterministic"):
            kwargs["benchmark"] = torch.cuda.is_available()  # let cuDNN time its convolutions, which have one shape
        if given.get("logger") in (None, True):
            kwargs["logger"] = self.run.loggers(self.config.log_graph) if fits else False
        trainer = super().instantiate_trainer(**kwargs)
        self.callbacks: list[pl.Callback] = list(vars(trainer)["callbacks"])
        if self.config.fast_loop:
            use_lean_steps(trainer)
        return trainer

    def changes(self) -> list[str]:
        """Return the options that differ from those of the checkpoint's run, as `name before -> now`."""
        run = run_of(self.config.ckpt_path) if self.config.ckpt_path is not None else None
        if run is None or self.command != "fit":
            return []
        before, now = (flatten(yaml.safe_load(t)) for t in ((run / "config.yaml").read_text(), self.config_text()))
        names = [name for name in now if name in before or name.endswith("class_path")]  # of the same class
        differ = (name for name in names if before.get(name) != now[name] and name not in _UNSEEN)
        return [f"{name} {before.get(name)} -> {now[name]}" for name in differ]

    def own_callbacks(self, given: pl.Callback | list[pl.Callback]) -> list[pl.Callback]:
        """Return the user's callbacks.

        Those that save checkpoints or log a training belong to `fit`. Of a checkpoint's run finders are left out, which
        have found what is saved there.
        """
        callbacks = [given] if isinstance(given, pl.Callback) else given
        if self.command != "fit":
            callbacks = [callback for callback in callbacks if not isinstance(callback, OF_TRAINING)]
        if self.config.ckpt_path is None:
            return callbacks
        if any(isinstance(callback, BatchSizeFinder) for callback in callbacks):
            saved = read_checkpoint(self.config.ckpt_path)[self.datamodule.CHECKPOINT_HYPER_PARAMS_KEY]
            self.datamodule.batch_size = saved["batch_size"]
        return [callback for callback in callbacks if not isinstance(callback, BatchSizeFinder | LearningRateFinder)]

    @property
    def saves(self) -> bool:
        """Whether checkpoints are written."""
        given = self.config.trainer
        return self.command == "fit" and given.enable_checkpointing is not False and not given.fast_dev_run

    def checkpoints(self, averages: bool) -> list[pl.Callback]:
        """Return the callbacks that save the best and the last weights; the latter if a callback `averages`."""
        last = LastCheckpoint(self.run.checkpoint("last"), self.config.save_every)
        # Without a validation split nothing selects the best, and stochastic weight averaging never validates its
        # average, which replaces the weights at the end.
        if averages or not getattr(self.datamodule, "val_size", True):
            return [last]
        metric, mode = self.config.monitor_metric, self.config.monitor_mode
        mode = mode or direction(metric, self.classifier.metrics)
        return [BestCheckpoint(self.run.checkpoint("best"), metric, mode), last]
