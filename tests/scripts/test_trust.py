"""One's own classes on the command line, and runs of unknown origin that may not bring theirs."""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import calibrate
import cluster
import explain
import train

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of one's own classes, which holds a run of them, and what that printed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_blocks.py").write_text(OWN)
    words = ["--model", "my_blocks.Classifier", "--model.temperature", "2", "--model.backbone", "my_blocks.Net"]
    words += ["--data", "my_blocks.Data", "--trainer.callbacks+", "my_blocks.Say", "--trainer.callbacks.word", "moin"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        train.main([*words, *SMALL])
        yield folder, printed.getvalue()
        sys.modules.pop("my_blocks", None)


@pytest.fixture
def best(trained, monkeypatch):
    """The best checkpoint of that run, in whose folder its classes are not imported yet."""
    monkeypatch.chdir(trained[0])
    monkeypatch.delitem(sys.modules, "my_blocks", raising=False)
    (started,) = (trained[0] / "runs").iterdir()
    return str(started / "checkpoints" / "best.ckpt")


def test_own_classes_train_and_their_run_goes_on_with_trust(trained, best, capsys, monkeypatch, tmp_path):
    folder, printed = trained
    (started,) = (folder / "runs").iterdir()
    assert "said moin" in printed
    config = yaml.safe_load((started / "config.yaml").read_text())
    assert config["model"]["class_path"] == "my_blocks.Classifier"
    assert config["model"]["init_args"]["temperature"] == 2
    assert config["model"]["init_args"]["backbone"]["class_path"] == "my_blocks.Net"
    commands = [line for line in printed.splitlines() if line.startswith(("continue", "test again"))]
    assert len(commands) == 2
    assert all("--trust my_blocks" in line for line in commands)

    home = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # somebody else's
    with pytest.raises(SystemExit) as ended:
        train.main(["test", "--ckpt_path", best])
    monkeypatch.setenv("XDG_STATE_HOME", home)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--trust my_blocks" in line
    assert "my_blocks" not in sys.modules
    train.main(["test", "--ckpt_path", best])  # what was typed here needs no trust


@pytest.mark.slow
def test_a_calibrated_run_of_own_classes_is_tested(best):
    calibrate.main(["--checkpoint", best, "--trust", "my_blocks", "--replicates", "10"])
    sys.modules.pop("my_blocks")
    calibrated = Path(best).parents[1] / "calibration" / "checkpoints" / "calibrated.ckpt"
    train.main(["test", "--ckpt_path", str(calibrated), "--trust", "my_blocks"])


@pytest.mark.parametrize("main", [calibrate.main, explain.main, cluster.main], ids=["calibrate", "explain", "cluster"])
def test_other_scripts_refuse_it_too(main, trained, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # not the home where it was typed
    monkeypatch.delitem(sys.modules, "my_blocks", raising=False)  # what is imported already needs no trust
    (started,) = (trained[0] / "runs").iterdir()
    command = {calibrate.main: [], explain.main: ["image"], cluster.main: ["features"]}[main]
    with pytest.raises(SystemExit):
        main([*command, "--checkpoint", str(started / "checkpoints" / "best.ckpt")])
    assert "--trust my_blocks" in capsys.readouterr().err


def test_help_shows_the_arguments_of_ones_own_classifier(trained, capsys):
    with pytest.raises(SystemExit):
        train.main(["fit", "--model", "my_blocks.Classifier", "--help"])
    printed = capsys.readouterr().out
    assert "--model.temperature" in printed
    assert "Divides the logits" in printed


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
