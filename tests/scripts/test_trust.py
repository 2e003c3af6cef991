"""One's own classes on the command line, and runs of unknown origin that may not bring theirs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import calibrate
import cluster
import explain
import train

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SMALL = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]

OWN = '''
import pytorch_lightning as pl
from torch import nn
from datamodules import DigitsDataModule
from lightning_modules import ImageClassifier


class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, num_classes))

    def forward(self, images):
        return self.layers(images)


def make_net(num_classes):
    return Net(num_classes)


class Data(DigitsDataModule):
    pass


class Say(pl.Callback):
    def __init__(self, word: str = "hello"):
        self.word = word

    def on_train_start(self, trainer, module):
        print("said", self.word)


class Classifier(ImageClassifier):
    """A classifier of one's own.

    Args:
        temperature: Divides the logits.
    """

    def __init__(self, temperature: float = 1.0, **kwargs):
        super().__init__(**kwargs)

    def forward(self, images):
        return super().forward(images) / self.hparams.temperature
'''


def run(folder: Path, script: str, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / script), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one's own classes, in the folder that holds them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_blocks.py").write_text(OWN)
    sys.path.append(str(folder))
    done = run(
        folder, "train.py", "--model", "my_blocks.Classifier", "--model.temperature", 2, "--model.backbone",
        "my_blocks.Net", "--data", "my_blocks.Data", "--trainer.callbacks+", "my_blocks.Say",
        "--trainer.callbacks.word", "moin", *SMALL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield folder, done
    sys.path.remove(str(folder))


def test_own_classes_train_and_their_run_goes_on_with_trust(trained):
    folder, done = trained
    (started,) = (folder / "runs").iterdir()
    assert "said moin" in done.stdout
    config = yaml.safe_load((started / "config.yaml").read_text())
    assert config["model"]["class_path"] == "my_blocks.Classifier"
    assert config["model"]["init_args"]["temperature"] == 2
    assert config["model"]["init_args"]["backbone"]["class_path"] == "my_blocks.Net"
    printed = [line for line in done.stdout.splitlines() if line.startswith(("continue", "test again"))]
    assert len(printed) == 2
    assert all("--trust my_blocks" in line for line in printed)

    best = started / "checkpoints" / "best.ckpt"
    refused = run(folder, "train.py", "test", "--ckpt_path", best)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "--trust my_blocks" in refused.stderr
    tested = run(folder, "train.py", "test", "--ckpt_path", best, "--trust", "my_blocks")
    assert tested.returncode == 0, tested.stderr
    rebuilt = run(folder, "calibrate.py", "--checkpoint", best, "--trust", "my_blocks", "--replicates", "10")
    assert rebuilt.returncode == 0, rebuilt.stderr
    calibrated = started / "calibration" / "checkpoints" / "calibrated.ckpt"
    tested = run(folder, "train.py", "test", "--ckpt_path", calibrated, "--trust", "my_blocks")
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize("main", [calibrate.main, explain.main, cluster.main], ids=["calibrate", "explain", "cluster"])
def test_other_scripts_refuse_it_too(main, trained, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "my_blocks", raising=False)  # what is imported already needs no trust
    (started,) = (trained[0] / "runs").iterdir()
    command = {calibrate.main: [], explain.main: ["image"], cluster.main: ["features"]}[main]
    with pytest.raises(SystemExit):
        main([*command, "--checkpoint", str(started / "checkpoints" / "best.ckpt")])
    assert "--trust my_blocks" in capsys.readouterr().err


def test_help_shows_the_arguments_of_ones_own_classifier(trained):
    folder, _ = trained
    done = run(folder, "train.py", "fit", "--model", "my_blocks.Classifier", "--help")
    assert "--model.temperature" in done.stdout
    assert "Divides the logits" in done.stdout


@pytest.mark.parametrize("name", ["my_blocks.make_net", "torchvision.models.resnet18", "resnet18"])
def test_functions_and_names_are_written_as_they_are(name, trained, capsys):
    with pytest.raises(SystemExit):
        train.main(["--data", "DigitsDataModule", "--model.backbone", name, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["model"]["backbone"] == name


@pytest.mark.parametrize("option", ["--model", "--model.backbone", "--data", "--optimizer", "--trainer.callbacks+"])
def test_an_import_that_fails_gives_its_reason(option, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_module.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit):
        train.main([option, "broken_module.Thing"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "No module named 'no_such_dependency'" in line


EVIL = {"class_path": "evil_module.Thing"}
HOSTILE = {
    "callback": {"trainer": {"callbacks": [EVIL]}},
    "logger": {"trainer": {"logger": "evil_module.Thing"}},
    "data": {"data": EVIL},
    "classifier": {"model": {**EVIL, "init_args": {}}},
    "backbone": {"model": {"backbone": "evil_module.Thing"}},
    "optimizer as text": {"optimizer": "{class_path: evil_module.Thing}"},
    "text in text": {"optimizer": "{class_path: SGD, init_args: {a: '[{class_path: evil_module.Thing}]'}}"},
    "a file beside it": {"model": {"backbone": "beside.yaml"}},
    "a function for a callback": {
        "trainer": {
            "callbacks": [
                {
                    "class_path": "pytorch_lightning.callbacks.LambdaCallback",
                    "init_args": {"on_fit_start": "evil_module.thing"},
                }
            ]
        }
    },
    "another configuration": {"config": "beside.yaml"},
    "a file of a folder": {"model": {"backbone": "inner/first.yaml"}},
    "a file by its address": {"data": "file://RUN/beside.yaml"},
    "a text in quotes": {"optimizer": "'evil_module.Thing'"},
    "a name like a file's": {"optimizer": "evil_module.json"},
    "trust": {"trust": "evil_module", "data": EVIL},
    "a short name": {"trainer": {"logger": {"class_path": "evil_module_Logger"}}},
    "a short name alone": {"trainer": {"logger": "evil_module_Logger"}},
    "a file that is overwritten": {
        "trainer": {
            "callbacks": [
                {
                    "class_path": "lightning_modules.callbacks.prediction_csv.PredictionCSV",
                    "init_args": {"path": "../evil_module.py", "classes": ["a"]},
                }
            ]
        }
    },
    "a bomb in a text": {
        "optimizer": "a0: &a0 [evil_module.x, x]\n"
        + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    },
    "a circle in a text": {"optimizer": "&a [evil_module.Thing, *a]"},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_config_runs_nothing(change, trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    (started,) = (folder / "runs").iterdir()
    copied = tmp_path / "run"
    shutil.copytree(started, copied)
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["trainer"]["callbacks"] = None
    config |= {"model": {"backbone": "MLP"}, "data": {"class_path": "datamodules.DigitsDataModule"}}
    for key, value in change.items():
        config[key] = {**config[key], **value} if key == "trainer" else value
    (copied / "config.yaml").write_text(yaml.safe_dump(config).replace("RUN", str(copied)))
    (copied / "beside.yaml").write_text(yaml.safe_dump(EVIL))
    (tmp_path / "evil_module.py").write_text("open('mark', 'w').close()\nclass Thing: pass\ndef thing(*_): pass\n")
    shutil.copy(copied / "beside.yaml", tmp_path)
    (copied / "inner").mkdir()
    (copied / "inner" / "first.yaml").write_text("{class_path: MLP, init_args: {activation: second.yaml}}")
    (copied / "inner" / "second.yaml").write_text(yaml.safe_dump(EVIL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit):
        train.main(["test", "--ckpt_path", str(copied / "checkpoints" / "best.ckpt")])
    (line,) = capsys.readouterr().err.splitlines()
    assert "evil_module" in line or str(copied) in line
    assert not (tmp_path / "mark").exists()


def test_links_out_of_a_run_and_unreadable_configurations(trained, tmp_path, capsys):
    folder, _ = trained
    (started,) = (folder / "runs").iterdir()
    for name, spoil in {
        "link": lambda run: (run / "metrics.csv").unlink() or (run / "metrics.csv").symlink_to(tmp_path / "target"),
        "nested": lambda run: (run / "config.yaml").write_text("[" * 3000),
        "bomb": lambda run: (run / "config.yaml").write_text(
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
        ),
        "large": lambda run: (run / "config.yaml").write_text("#" * 2_000_000),
        "list": lambda run: (run / "config.yaml").write_text("[1, 2]"),
        "bytes": lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\x00"),
    }.items():
        copied = tmp_path / name
        shutil.copytree(started, copied)
        spoil(copied)
        with pytest.raises(SystemExit):
            train.main(["--ckpt_path", str(copied / "checkpoints" / "last.ckpt"), "--trust", "my_blocks"])
        (line,) = capsys.readouterr().err.splitlines()
        assert str(copied) in line
    assert not (tmp_path / "target").exists()
