"""A wrong input of a command is one line with the key, the value found, what is allowed and the reason."""

import shlex
from importlib import import_module

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError

from _common.errors import one_line, with_option
from _train.command_line import TrainCLI
from _train.words import choose_classifier, complete
from lightning_modules.backbones import MLP

SGD, DATA = "optimizer: SGD\n", "data: DigitsDataModule\n"
CALLBACK = DATA + "trainer: {{callbacks: [{}]}}\n"
STOPPING = DATA + "trainer: {{callbacks: [{{class_path: EarlyStopping, init_args: {{{}}}}}]}}\n"
LOGGER = DATA + "trainer: {{logger: {}}}\n"
WORDS = {
    "--data.flip up": "--data.flip: expected one of 'none', 'random', 'alternating', found up",
    "--data.batch_size 1.5": "--data.batch_size: expected int, found 1.5",
    "--data.val_size nan": "--data.val_size: expected int or float, found nan",
    "--data torch.nn.ReLU": "--data must be a LightningDataModule, found torch.nn.ReLU",
    "--data NopeDataModule": "unknown data module 'NopeDataModule': the nearest are SVHNDataModule, MNISTDataModule",
    "--trainer.callbacks EarlyStopping": "--trainer.callbacks EarlyStopping needs monitor: add --trainer.callbacks.mon",
    "--trainer.callbacks EarlyStoppin": "--trainer.callbacks: expected the name or import path of a Callback, found",
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/nll --trainer.callbacks.patience x": (
        "--trainer.callbacks.patience: expected int, found x"
    ),
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitr val/nll": (
        "--trainer.callbacks has no option 'monitr': see --help, or --trainer.callbacks.help EarlyStopping"
    ),
    "--trainer.logger CSVLogger": "--trainer.logger CSVLogger needs save_dir",
    "--trainer.logger CSVLoger": "--trainer.logger: expected the name or import path of a Logger, found CSVLoger",
    "--optimizer SGD --lr_scheduler CosineAnnealingLR": "--lr_scheduler CosineAnnealingLR needs T_max: add --lr_sch",
    "--optimizer Adam --optimizer.lr fast": "--optimizer.lr: expected float, found fast",
    "--optimizer Adam --optimizer.learning 1": "--optimizer has no option 'learning': see --help, or --optimizer.help",
    "--optimizer LAMB --optimizer.betas 0.9": "--optimizer.betas: expected tuple, found 0.9",
    "--optimizer Adamm": "unknown optimizer 'Adamm': the nearest are Adam",
    "--optimizer SAM --optimizer.base_optimizer Nope": "unknown optimizer 'Nope': ",
    "--lr_scheduler StepLRR": "unknown learning rate scheduler 'StepLRR': the nearest are StepLR",
    "--model.activation SPOCU --model.activation.c big": "--model.activation.c: expected float, found big",
    "--model.activation Reluu": "there is no activation 'Reluu': the nearest are relu",
    "--model.backbone MLP --model.backbone.hidden x": "--model.backbone.hidden: expected Sequence, found x",
    "--model.dropout 1": "unrecognized arguments: --model.dropout 1: ",
    "--monitor_mode best": "--monitor_mode: expected one of 'm",  # typing may give either order
    "--trainer.max_epoch 1": "unrecognized arguments: --trainer.max_epoch 1: did you mean --trainer.max_epochs?",
    "--trainer max_epochs=3": "--trainer must hold options, found 'max_epochs=3'",
    "--trainer.precision 12": "--trainer.precision: expected one of 64, 32, 16",
    "--save_every": "argument --save_every: expected one argument",
    "--seed_everything -1": "--seed_everything must be 0 to 4294967295, found -1",
    "--seed_everything lucky": "--seed_everything: expected bool or int, found lucky",
    "--ckpt_path nowhere.ckpt": "--ckpt_path: no checkpoint at nowhere.ckpt: check the path",
    "--config nowhere.yaml": "--config: File does not exist: ",
    "--fast_loop maybe": "--fast_loop: expected bool, found maybe",
    "stray": "unrecognized arguments: stray",
}
FILES = {
    "\n": "must hold options, found None",
    "5": "must hold options, found 5",
    "a:\n\tb: 1\n": ", line 2, column 1: found character that cannot start any token",
    "trainer: [1]": "trainer must hold options, found [1]",
    "model: [1]": "model must hold options, found [1]",
    "optimiser: SGD": "there is no option --optimiser: did you mean --optimizer",
    "trainer: {max_epoch: 1}": "did you mean --trainer.max_epochs?",
    "model: {labels: 1}": "there is no option --model.labels: did you mean --model.label_smoothing",
    STOPPING.format("patience: many"): "--trainer.callbacks.patience: expected int, found many",
    STOPPING.format(
        "monitr: val/nll"
    ): "--trainer.callbacks has no option 'monitr': see --help, or --trainer.callbacks.help EarlyStopping",
    CALLBACK.format("3"): "--trainer.callbacks: expected the name or import path of a Callback, found 3",
    CALLBACK.format("{class_path: EarlyStoping}"): "of a Callback, found EarlyStoping",
    CALLBACK.format("{class_path: my.Nope}"): "--trainer.callbacks my.Nope: No module named 'my'",
    CALLBACK.format("{class_path: torch.nn.ReLU}"): "--trainer.callbacks must be a Callback, found",
    CALLBACK.format("{class_path: EarlyStopping, monitor: val/nll}"): "beside other options, found",
    CALLBACK.format("{class_path: EarlyStopping, init_args: [1]}"): "expected class_path and init_args (options by",
    CALLBACK.format("{class_path: LearningRateMonitor, init_args: {logging_interval: hour}}"): (
        "--trainer.callbacks.logging_interval: expected one of '"  # typing may give either order
    ),
    DATA + "trainer: {callbacks: {EarlyStopping: {monitor: val/nll}}}": (
        "expected class_path and init_args, found 'EarlyStopping': write class_path: EarlyStopping"
    ),
    LOGGER.format("5"): "--trainer.logger: expected the name or import path of a Logger, found 5",
    LOGGER.format("{class_path: CSVLogger, init_args: {save_dir: x, directory: y}}"): (
        "--trainer.logger has no option 'directory': see --help, or --trainer.logger.help CSVLogger"
    ),
    LOGGER.format("[{class_path: CSVLogger, init_args: {save_dir: x}}, {class_path: TensorBoardLoger}]"): (
        "--trainer.logger: expected the name or import path of a Logger, found TensorBoardLoger"
    ),
    DATA + "optimizer: [SGD]": "--optimizer: expected class_path and init_args (options by name), found ['SGD']",
    DATA + "optimizer: {SGD: {lr: 0.1}}": "found 'SGD': write class_path: SGD",
    DATA + "optimizer: {class_path: SGD, lr: 0.1}": "beside other options, found {'class_path': 'torch.optim.SGD'",
    DATA + "optimizer: {class_path: torch.nn.ReLU}": "--optimizer must be an Optimizer, found torch.nn.ReLU",
    DATA + "optimizer: {class_path: AdamW, init_args: {betas: [0.9]}}": (
        "--optimizer.betas: expected tuple with 2 elements, found [0.9]"
    ),
    DATA + "optimizer: {class_path: SAM, init_args: {base_optimizer: {class_path: SGD, init_args: {lrr: 1}}}}": (
        "--optimizer.base_optimizer has no option 'lrr'"
    ),
    DATA + SGD + "lr_scheduler: {StepLR: {step_size: 1}}": "found 'StepLR': write class_path: StepLR",
    DATA + SGD + "lr_scheduler: {class_path: StepLR, init_args: {step_size: x}}": (
        "--lr_scheduler.step_size: expected int, found x"
    ),
    DATA + SGD + "lr_scheduler: {class_path: torch.optim.SGD}": "--lr_scheduler must be a LRScheduler, found torch",
    DATA + "model: {backbone: {class_path: my.Net}}": "--model.backbone my.Net: No module named 'my'",
    DATA + "model: {backbone: {class_path: MLP, init_args: {hiden: [3]}}}": (
        "--model.backbone has no option 'hiden': see --help, or --model.backbone.help MLP"
    ),
    DATA + "model: {activation: {class_path: torch.nn.Linear}}": "--model.activation Linear needs in_features, out",
    "data: {class_path: DigitsDataModule, batch_size: 3}": "beside other options",
    "data: [DigitsDataModule]": "--data: expected the name or import path of a LightningDataModule, found",
}


@pytest.fixture(scope="module")
def cli():
    """The parser, which takes long to build."""
    return TrainCLI(["fit", "--data", "DigitsDataModule"])


def parse(cli, *words):
    cli.parse_arguments(cli.parser, choose_classifier(complete("fit", list(words)))[0])


@pytest.mark.parametrize("words", WORDS)
def test_words(cli, words):
    with pytest.raises((ArgumentError, ValueError, OSError), match=r".") as error:
        parse(cli, *words.split())
    options = [tuple(words.split()[:2])]
    line = with_option(
        one_line(error.value), [(name.lstrip("-"), (value,)) for name, *values in options for value in values]
    )
    assert line.startswith(WORDS[words])


@pytest.mark.parametrize("text", FILES)
def test_files(cli, tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises((ArgumentError, ValueError), match=r".") as error:
        parse(cli, "--config", str(path))
    line = one_line(error.value)
    assert FILES[text] in line
    assert "--" in line
    assert "\n" not in line
    assert "Union" not in line


def parameter():
    return [torch.nn.Parameter(torch.zeros(2, 2))]


def scheduler(name, **options):
    optimizer = torch.optim.SGD(parameter(), 0.1)
    one = getattr(torch.optim.lr_scheduler, name)(optimizer, **options)
    optimizer.step()
    one.step()


LATER = {
    "--optimizer SGD: Invalid learning rate: -1": lambda: torch.optim.SGD(parameter(), lr=-1),
    "--optimizer SGD: Nesterov momentum requires a momentum and zero dampening (found nesterov=True)": (
        lambda: torch.optim.SGD(parameter(), nesterov=True)
    ),
    "--lr_scheduler StepLR: integer modulo by zero (found step_size=0)": lambda: scheduler("StepLR", step_size=0),
    "--lr_scheduler ReduceLROnPlateau: Factor should be < 1.0. (found factor=2)": (
        lambda: scheduler("ReduceLROnPlateau", factor=2)
    ),
    "--model.backbone MLP: hidden must be at least 1, found 0": lambda: MLP(2, (1, 8, 8), torch.nn.ReLU, hidden=[0]),
    "--model.activation Softplus: wrong": lambda: Wrong("wrong"),
    "--trainer.limit_val_batches: You have passed invalid value 2.5": lambda: pl.Trainer(limit_val_batches=2.5),
    "--trainer.devices: `devices` selected with": lambda: pl.Trainer(accelerator="cpu", devices="x"),
    "--trainer.max_time: `Timer(duration='soon')`": lambda: pl.Trainer(accelerator="cpu", max_time="soon"),
    "--trainer.max_steps: `max_steps` must be": lambda: pl.Trainer(accelerator="cpu", max_steps=-3),
    "--trainer.callbacks EarlyStopping: `mode` can be": lambda: pl.callbacks.EarlyStopping("val/nll", mode="best"),
    "RuntimeError: ": lambda: torch.nn.Linear(2, 3)(torch.zeros(4, 5)),
}


class Wrong(torch.nn.Softplus):
    """An activation that refuses its argument."""

    __module__ = "my_activations"

    def __init__(self, text):
        super().__init__()
        raise ValueError(text)

    __init__.__qualname__ = "Softplus"


Wrong.__name__ = "Softplus"


@pytest.mark.parametrize("line", LATER)
def test_values_that_are_refused_later(line):
    with pytest.raises(Exception, match=r".") as error:
        LATER[line]()
    found = one_line(error.value)
    assert found.startswith(line)
    assert ("the traceback with" in found) == line.startswith("RuntimeError")


EXPERIMENTS = {
    "cluster --n 200 --k 0": "--k must be at least 1, found 0",
    "cluster --n 200 --k 1000": "n_samples=200 should be >= n_clusters=1000",
    "cluster --n 200 --std -1": "--std must be at least 0, found -1.0",
    "cluster --n 200 --device gpu": "--device must be 'auto', 'cpu', 'cuda' or like 'cuda:0,1', found 'gpu'",
    "cluster --n 200 --seed -1": "--seed must be 0 to 4294967295, found -1",
    "cluster --n 200 --output notes.txt": "--output must be a folder, found the file notes.txt",
    "cluster --n 200 --output notes.txt/x": "--output must be a folder that can be written, found notes.txt/x (Not a",
    "cluster features --tolerance 0.2": "--tolerance 0.2 has no effect without --balanced",
    "cluster --n 200 --kk 3": "unrecognized arguments: --kk 3: did you mean --k?",
    "cluster nope": "unknown command 'nope'",
    "cluster fit": "the following arguments are required: data",
    "cluster fit nowhere.npy": "No such file or directory: nowhere.npy",
    "cluster fit notes.txt": "data must be a .npy file of one array [N, D] of numbers, found notes.txt",
    "cluster fit text.npy": "data must be a .npy file of one array [N, D] of numbers, found text.npy",
    "cluster fit text.npy --tol x": "--tol: expected float, found x",
    "cluster features --checkpoint nowhere.ckpt": "--checkpoint: no checkpoint at nowhere.ckpt",
    "cluster features --picture umap": "--picture: expected one of 'pca', 'tsne', found umap",
    "calibrate --checkpoint notes.txt": "--checkpoint: cannot read the checkpoint notes.txt",
    "calibrate --keep Isotonic": "--keep: expected one of 'TemperatureScaling'",
    "calibrate --n_bins 0": "--n_bins must be at least 1, found 0",
    "calibrate --replicates 1": "--replicates must be at least 2, found 1",
    "explain image --count 0": "--count must be at least 1, found 0",
    "explain image --index [x]": "--index: expected int, found x",
    "explain tabular --csv nowhere.csv": "--csv: there is no file nowhere.csv",
    "explain tabular --csv t.csv --target z": "target 'z' is not a column of t.csv; its columns are a, b, y",
    "explain tabular --csv t.csv --rows [100]": "--rows: 100 is not a test row of t; they are 0 to 9",
    "explain text --corpus nowhere": "--corpus: there is no folder nowhere",
    "gradient_check --data cifar": "--data: expected one of 'digits', 'mnist', found cifar",
    "gradient_check --samples 0": "--samples must be at least 1, found 0",
    "gradient_check --output notes.txt": "--output must be a folder, found the file notes.txt",
    "linear_svm --classes 3 12": "--classes must be two different classes of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; found 3 12",
    "linear_svm --classes 3": "--classes must be two different classes of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; found 3",
    "linear_svm --folds 1": "--folds must be at least 2, found 1",
    "regularization --parts [nope]": "--parts: expected one of 'polynomial', 'geometry', 'network', found nope",
    "regularization --dropout 2": "--dropout must be less than 1, found 2.0",
    "regularization --l1 -1": "--l1 must be at least 0, found -1.0",
    "landscape --sgd nowhere.ckpt": "give two checkpoints, --sgd and --sam, or none to train both",
    "landscape --sgd notes.txt --sam notes.txt": "--sgd: cannot read the checkpoint notes.txt",
    "landscape --rho -1": "--rho must be at least 0, found -1.0",
    "landscape --iterations 0": "--iterations must be at least 1, found 0",
    "compare --axis optimizer": "--axis optimizer needs its --values",
    "compare --values A": "--values A needs values, and an --axis before it",
    "compare --axis optimizer --values 'SGD(lr=0.1'": "cannot read 'SGD(lr=0.1'",
    "compare --axis optimizer --values 'SGD(lr=fast)'": "SGD(lr=fast): --optimizer.lr: expected float, found fast",
    "compare --axis optimizer --values Adamm": "Adamm: unknown optimizer 'Adamm': the nearest are Adam",
    "compare --seeds 1.5": "--seeds: expected int, found 1.5",
    "compare --engine spark": "--engine: expected one of 'processes', 'ray', found spark",
}


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_experiments(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{row},{row % 3},{row % 2}\n" for row in range(40)))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    script, *words = shlex.split(command)
    with pytest.raises(SystemExit) as ended:
        import_module(script).main(words)
    assert ended.value.code == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert EXPERIMENTS[command] in line
