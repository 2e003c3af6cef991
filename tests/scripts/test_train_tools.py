"""Lightning's loggers, callbacks and profilers by the command line of train.py."""

import csv
import json

import pytest
import torch
import yaml
from pytorch_lightning.loggers import Logger

import train
from lightning_modules import ImageClassifier
from lightning_modules.training_loop import LeanEpochLoop

LOGGERS = "pytorch_lightning.loggers"


def run(root, *arguments):
    small = ["--data", "DigitsDataModule", "--data.train_size", "256", "--model.backbone", "MLP"]
    settings = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1"]
    return train.main([*small, *settings, "--trainer.default_root_dir", str(root / "runs"), *map(str, arguments)])


def results(cli):
    return json.loads((cli.run.folder / "results.json").read_text())


class Recorder(Logger):
    """A logger with the signatures of Lightning's `Logger`, as Weights & Biases and MLflow have them."""

    def __init__(self, project: str = "none"):
        super().__init__()
        self.project, self.params, self.metrics, self.saved = project, [], [], 0

    name = version = "recorder"

    def log_hyperparams(self, params):
        self.params.append(dict(params))

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, metrics))

    def save(self):
        self.saved += 1


def test_one_logger(tmp_path):
    cli = run(tmp_path, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", tmp_path / "csv")
    with open(next((tmp_path / "csv").rglob("metrics.csv"))) as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["final/test/accuracy"]) == pytest.approx(results(cli)["test/accuracy"])
    assert {"train/loss", "val/nll", "train/learning_rate"} <= rows[0].keys()
    assert not (cli.run.folder / "metrics.csv").exists()


def test_two_loggers_of_a_list(tmp_path):
    loggers = [
        {"class_path": f"{__name__}.Recorder", "init_args": {"project": "digits"}},
        {"class_path": f"{LOGGERS}.CSVLogger", "init_args": {"save_dir": str(tmp_path / "csv")}},
    ]
    (tmp_path / "loggers.yaml").write_text(yaml.safe_dump({"trainer": {"logger": loggers}}))
    cli = run(tmp_path, "--config", tmp_path / "loggers.yaml")
    (recorder,) = [one for one in cli.config_init.trainer.logger if isinstance(one, Recorder)]
    assert recorder.project == "digits"
    assert recorder.params[-1]["optimizer"] == "None"
    assert recorder.params[-1]["trainer.max_epochs"] == 2
    step, final = recorder.metrics[-1]
    assert step == 4
    assert final["final/test/nll"] == results(cli)["test/nll"]
    assert recorder.saved
    assert list((tmp_path / "csv").rglob("metrics.csv"))


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    cli = run(tmp_path, "--trainer.logger", "WandbLogger", "--trainer.logger.save_dir", tmp_path)
    assert results(cli)
    assert list((tmp_path / "wandb").rglob("*.wandb"))


def test_mlflow(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    cli = run(tmp_path, "--trainer.logger", "MLFlowLogger", "--trainer.logger.save_dir", tmp_path / "mlruns")
    (written,) = (tmp_path / "mlruns").rglob("metrics/final/test/accuracy")
    assert float(written.read_text().split()[1]) == pytest.approx(results(cli)["test/accuracy"])


@pytest.mark.parametrize(
    "name", ["RichProgressBar", pytest.param("pytorch_lightning.callbacks.RichProgressBar", marks=pytest.mark.slow)]
)
def test_a_callback_without_options(tmp_path, capsys, name):
    cli = run(tmp_path, "--trainer.callbacks", name)
    printed = capsys.readouterr().out
    assert "Epoch 1/1" in printed  # Lightning's bar
    assert "epoch 2/2" not in printed  # ours
    assert (cli.run.folder / "metrics.csv").exists()
    assert (cli.run.folder / "tensorboard").exists()


@pytest.mark.parametrize("profiler", ["simple", pytest.param("advanced", marks=pytest.mark.slow)])
def test_profilers_print(tmp_path, caplog, profiler):
    run(tmp_path, "--trainer.profiler", profiler)
    assert "Profiler Report" in caplog.text
    assert "run_training_batch" in caplog.text


@pytest.mark.parametrize("backbone", ["MLP", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_the_average_is_tested_and_saved(tmp_path, backbone):
    options = ("--model.backbone", backbone, "--trainer.callbacks.swa_lrs", "0.01")
    cli = run(tmp_path, "--trainer.callbacks", "StochasticWeightAveraging", *options)
    (saved,) = (cli.run.folder / "checkpoints").glob("*.ckpt")
    model = ImageClassifier.load_from_checkpoint(saved)
    (averaging,) = [one for one in cli.callbacks if type(one).__name__ == "StochasticWeightAveraging"]
    average = dict(averaging._average_model.named_parameters())
    assert averaging.n_averaged > 0
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, average[name])
    again = train.main(["test", "--ckpt_path", str(saved), "--trainer.accelerator", "cpu"])
    assert json.loads((again.run.folder / "test.json").read_text())["test/nll"] == results(cli)["test/nll"]
    train.main(["--ckpt_path", str(saved), "--trainer.max_epochs", "4", "--trainer.accelerator", "cpu"])


@pytest.mark.parametrize("finder", ["LearningRateFinder", pytest.param("BatchSizeFinder", marks=pytest.mark.slow)])
def test_what_a_finder_has_found_is_kept_on_resume(tmp_path, caplog, finder):
    option = {"LearningRateFinder": ("num_training_steps", "20"), "BatchSizeFinder": ("max_val", "64")}[finder]
    small = ("--data.batch_size", "16")
    cli = run(tmp_path, *small, "--trainer.callbacks", finder, f"--trainer.callbacks.{option[0]}", option[1])
    found = "Learning rate set to" if finder == "LearningRateFinder" else "using batch size 64"
    assert caplog.text.count(found) == 1  # not again before the test
    caplog.clear()
    last = str(cli.run.folder / "checkpoints" / "last.ckpt")
    more = train.main(["--ckpt_path", last, "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu"])
    assert found not in caplog.text
    assert more.datamodule.batch_size == cli.datamodule.batch_size
    first, second = (one.trainer.optimizers[0].param_groups[0]["initial_lr"] for one in (cli, more))
    assert first == second


def test_early_stopping_and_accumulation(tmp_path):
    stop = ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val/nll")
    window = ("--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling", "{0: 2}")
    cli = run(tmp_path, *stop, "--trainer.callbacks.min_delta", "100", "--trainer.callbacks.patience", "1", *window)
    assert cli.trainer.global_step == 2


def test_the_loop_and_what_suits_the_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [])
    asked = ("--fast_loop", "false", "--matmul_precision", "high", "--trainer.deterministic", "true")
    for options, lean, benchmark in (((), True, True), (asked, False, False)):
        words = ["--data", "DigitsDataModule", "--trainer.accelerator", "cpu"]
        cli = train.TrainCLI([*words, "--trainer.default_root_dir", str(tmp_path), *options])
        try:
            cli.build(train.find_run(cli))
            assert (type(cli.trainer.fit_loop.epoch_loop) is LeanEpochLoop) == lean
            assert torch.backends.cudnn.benchmark == benchmark
            assert torch.get_float32_matmul_precision() == ("highest" if lean else "high")
            assert ("float32 matrix products have precision high" in capsys.readouterr().out) != lean
        finally:
            torch.set_float32_matmul_precision("highest")
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.benchmark = False
