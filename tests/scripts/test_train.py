"""scripts/train.py by its command line, in this process."""

import csv
import json
import logging
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score, log_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

import train
from datamodules import DigitsDataModule
from evaluation import calibration_error
from lightning_modules import ImageClassifier
from workers.tensorboard_server import tensorboard_server

RECIPES = Path(train.__file__).parent / "recipes"
CONFIGURATIONS = sorted(path for path in RECIPES.glob("*.yaml") if path.stem != "spaces")
SMALL = [
    "--data.batch_size",
    "128",
    "--data.watch_test",
    "false",
    "--model.backbone",
    "TwoLayerNet",
    "--trainer.max_epochs",
    "2",
    "--trainer.log_every_n_steps",
    "5",
]
ON_CPU = ["--trainer.accelerator", "cpu"]


def run(root, *arguments):
    return train.main([*arguments, *ON_CPU, "--trainer.default_root_dir", str(root)])


def refused(capsys, root, *arguments):
    """Return the single line of the error."""
    with pytest.raises(SystemExit) as stop:
        run(root, *arguments)
    assert stop.value.code not in (0, None)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def without_checksum(config):
    """Return a config.yaml as a version without checksums has written it."""
    first, second, rest = config.split("\n", 2)
    assert second.startswith("# checksum ")
    return f"{first}\n{rest}"


SETTINGS = {
    "optimizer": "AdamW", "learning_rate": 5e-3, "backbone": "TwoLayerNet", "activation": "LeakyReLU",
    "batch_size": 128, "epochs": 2, "data": "DigitsDataModule", "seed": 0,
    "options": "model.activation.negative_slope=0.3 data.crop_padding=1 data.watch_test=True",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with every optional output."""
    root = tmp_path_factory.mktemp("runs")
    extras = ["--data.watch_test", "true", "--log_graph", "true", "--export", "onnx", "--model.activation", "LeakyReLU"]
    cli = run(root, *SMALL, *extras, "--model.activation.negative_slope", "0.3")
    return cli.run.folder


def test_results_are_those_of_the_best_checkpoint(trained):
    results = json.loads((trained / "results.json").read_text())
    keys = {"test/accuracy", "test/nll", "test/ece", "train/examples_per_second", "parameters"}
    assert keys | {"train/data_seconds_per_batch"} <= results.keys()
    model = ImageClassifier.load_from_checkpoint(trained / "checkpoints" / "best.ckpt", weights_only=True).eval()
    data = DigitsDataModule()
    data.setup("test")
    batches = list(data.test_dataloader())
    labels = torch.cat([labels for _, labels in batches])
    with torch.no_grad():
        logits = torch.cat([model(images) for images, _ in batches]).double()
    probabilities = logits.softmax(1)
    assert results["test/accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert results["test/nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(10)), rel=1e-5)
    assert results["test/ece"] == pytest.approx(float(calibration_error(probabilities, labels)), rel=1e-5)
    assert results["parameters"] == sum(p.numel() for p in model.parameters())
    assert results["train/examples_per_second"] > 10
    assert 0 < results["train_seconds"] < 300
    assert model.backbone.activation.negative_slope == 0.3


@pytest.mark.slow
def test_a_warm_up_changes_no_weight_and_no_random_number(tmp_path, capsys):
    words = ["--config", str(RECIPES / "cifar10_fast.yaml"), "--data", "DigitsDataModule", "--data.batch_size", "16"]
    words += ["--data.train_size", "48", "--data.val_size", "0", "--data.crop_padding", "1", "--data.flip", "random"]
    words += ["--trainer.precision", "32-true", "--optimizer.ns_dtype", "float32", "--model.compile", "false"]
    words += ["--trainer.max_epochs", "1", "--data.eval_batch_size", "16", "--trainer.limit_test_batches", "1"]
    weights = []
    for name in ("cold", "warm"):
        cli = run(tmp_path / name, "fit", *words, *(["--warm_up", "2"] if name == "warm" else []))
        weights.append(torch.load(cli.run.checkpoint("last"), weights_only=True))
        results = json.loads((cli.run.folder / "results.json").read_text())
        assert 0 < results["train_seconds"] < 300
        assert {"test/accuracy", "test/accuracy_tta", "test/nll_tta"} <= results.keys()
    cold, warm = (one["state_dict"] for one in weights)
    assert cold["backbone.initialised"]
    assert all(torch.equal(cold[name], warm[name]) for name in cold)
    assert weights[1]["callbacks"]["TrainClock"]["train_seconds"] > 0
    assert "must be at least 0, found -1" in refused(capsys, tmp_path, "fit", *words, "--warm_up", "-1")


def test_the_run_folder_is_complete(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "metrics.csv",
        "results.json",
        "model.onnx",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    } <= names
    assert not [name for name in names if "partial" in name]
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["activation"]["class_path"] == "torch.nn.LeakyReLU"
    for name in ("best", "last"):
        torch.load(trained / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_event_files_hold_the_curves_images_graph_and_hyperparameters(trained):
    events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    pairs = [f"{name}/{part}" for name in ("accuracy", "loss") for part in ("test", "train", "val")]
    assert sorted(scalars)[:6] == pairs  # the first cards, with the option to watch the test split
    curves = {"train/nll", "val/ece", "test/ece", "results/test/nll"}
    windows = {"train/loss_window", "train/learning_rate", "train/gradient_norm", "train/examples_per_second"}
    windows.add("train/data_seconds_per_batch")
    assert curves | windows <= scalars
    assert [event.step for event in events.Scalars("accuracy/val")] == [9, 19]
    assert [event.step for event in events.Scalars("train/loss_window")] == [4, 9, 14, 19]
    pictures = {"val/confusion_matrix", "val/mistakes", "val/reliability", "test/reliability"}
    assert pictures <= set(events.Tags()["images"])
    assert len(events.Images("val/mistakes")) == 2
    assert events.Tags()["graph"]
    results = json.loads((trained / "results.json").read_text())
    assert events.Scalars("results/test/accuracy")[0].value == pytest.approx(results["test/accuracy"])
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: value.string_value or value.number_value for name, value in shown.items()} == SETTINGS
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    columns = metadata.parse_experiment_plugin_data(content)
    assert {info.name for info in columns.hparam_infos} == set(SETTINGS)  # of every run
    assert all(info.WhichOneof("domain") is None for info in columns.hparam_infos)  # other runs have other values
    assert [info.name.tag for info in columns.metric_infos][:1] == ["results/test/accuracy"]


def test_the_real_tensorboard_shows_it(trained):
    with tensorboard_server(trained.parent, tags=("loss/train",)) as get:
        (name,) = get("/data/plugin/scalars/tags")
        points = get("/data/plugin/scalars/scalars", run=name, tag="accuracy/val")
        assert [step for _, step, _ in points] == [9, 19]
        assert "val/mistakes" in get("/data/plugin/images/tags")[name]


def test_the_exported_network_gives_the_same_logits(trained):
    model = ImageClassifier.load_from_checkpoint(trained / "checkpoints" / "best.ckpt").eval()
    session = onnxruntime.InferenceSession(trained / "model.onnx", providers=["CPUExecutionProvider"])
    for size in (1, 7):
        images = torch.randn(size, 1, 8, 8)
        (logits,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(logits, model(images).detach(), atol=1e-5)
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["class_names"]) == [str(digit) for digit in range(10)]
    assert len(json.loads(known["mean"])) == len(json.loads(known["std"])) == 1
    assert known["input"] == "float32 ['N', 1, 8, 8]: (pixel / 255 - mean) / std"


def test_predictions(trained, tmp_path):
    run(tmp_path, "predict", "--ckpt_path", str(trained / "checkpoints" / "best.ckpt"))
    rows = list(csv.DictReader((trained / "predictions.csv").open()))
    results = json.loads((trained / "results.json").read_text())
    assert len(rows) == 359
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == pytest.approx(results["test/accuracy"])
    for row in rows[:20]:
        probabilities = [float(row[f"probability_{digit}"]) for digit in range(10)]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == str(np.argmax(probabilities))


def test_test_and_validate_rebuild_model_and_data_from_the_runs_config(trained, tmp_path):
    results = json.loads((trained / "results.json").read_text())
    run(tmp_path, "test", "--ckpt_path", str(trained / "checkpoints" / "best.ckpt"))
    assert json.loads((trained / "test.json").read_text())["test/accuracy"] == results["test/accuracy"]
    run(trained.parent, "validate", "--ckpt_path", "last")
    assert 0 <= json.loads((trained / "validate.json").read_text())["val/accuracy"] <= 1
    assert json.loads((trained / "results.json").read_text()) == results


def test_the_configuration_of_an_earlier_version_is_read(trained, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(trained, old, ignore=shutil.ignore_patterns("tensorboard"))
    config = (old / "config.yaml").read_text()
    moved = config.replace("class_path: datamodules.DigitsDataModule", "class_path: datamodules.gone.DigitsDataModule")
    assert moved != config
    (old / "config.yaml").write_text(f"{without_checksum(moved)}weights_only: null\n")
    with pytest.warns(UserWarning, match=r"datamodules\.gone\.DigitsDataModule has moved: read as datamodules\.Digits"):
        run(tmp_path, "test", "--ckpt_path", str(old / "checkpoints" / "best.ckpt"))
    results = json.loads((trained / "results.json").read_text())
    assert json.loads((old / "test.json").read_text())["test/accuracy"] == results["test/accuracy"]


def test_a_finished_run_continues_in_its_folder(tmp_path):
    first = run(tmp_path, *SMALL).run.folder
    config = (first / "config.yaml").read_text()
    again = run(tmp_path, "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert again.run.folder.absolute() == first.absolute()
    continued = without_checksum((first / "config.yaml").read_text())
    assert continued == without_checksum(config).replace("max_epochs: 2", "max_epochs: 3")
    steps = [row["step"] for row in csv.DictReader((first / "metrics.csv").open()) if row["val/accuracy"]]
    assert steps == ["9", "19", "29"]


def test_two_runs_with_one_seed_are_the_same(tmp_path):
    weights = []
    for seed in ("1", "1", "2"):
        folder = run(tmp_path / seed, *SMALL, "--trainer.max_epochs", "1", "--seed_everything", seed).run.folder
        weights.append(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_init_from_starts_from_weights(trained, tmp_path, capsys):
    best = trained / "checkpoints" / "best.ckpt"
    frozen = ["--optimizer", "SGD", "--optimizer.lr", "0.0"]
    folder = run(tmp_path, *SMALL, *frozen, "--init_from", str(best)).run.folder
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    given = torch.load(best, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[name], given[name]) for name in given)
    line = refused(capsys, tmp_path, "--model.backbone", "SmallConvNet", "--init_from", str(best))
    assert "no weight" in line


@pytest.mark.parametrize("recipe", CONFIGURATIONS, ids=lambda path: path.stem)
def test_recipes_parse(recipe):
    config = train.TrainCLI(["fit", "--config", str(recipe)]).config
    assert config.data.class_path.startswith("datamodules.")
    if recipe.stem == "digits":
        assert config.model.backbone.class_path == "lightning_modules.backbones.ResNet"
    else:
        rates = {"torch.optim.SGD": 0.1, "torch.optim.Adam": 0.001, "optim.Muon": 0.24}
        assert config.optimizer.init_args.lr == rates[config.optimizer.class_path]


def test_without_validation_the_last_weights_are_tested(tmp_path, capsys):
    folder = run(tmp_path, *SMALL, "--data.val_size", "0", "--data.watch_test", "true").run.folder
    assert "last weights" in capsys.readouterr().out
    assert not (folder / "checkpoints" / "best.ckpt").exists()
    rows = [row for row in csv.DictReader((folder / "metrics.csv").open()) if row["test/accuracy"]]
    results = json.loads((folder / "results.json").read_text())
    assert float(rows[-1]["test/accuracy"]) == pytest.approx(results["test/accuracy"])


MISTAKES = {
    "unknown optimizer": (["--optimizer", "Adamm"], "unknown optimizer 'Adamm': the nearest are Adam"),
    "unknown activation": (["--model.activation", "Relu7"], "no activation 'Relu7'"),
    "unknown data": (["--data", "MNIST"], "unknown data module 'MNIST': the nearest are MNISTDataModule"),
    "unknown backbone": (["--model.backbone", "resnet21"], "unknown backbone 'resnet21'"),
    "unknown option": (["--optimizer", "AdamW", "--optimizer.lrr", "1"], "--optimizer has no option 'lrr'"),
    "unknown argument": (["--trainer.maxepochs", "3"], "unrecognized arguments: --trainer.maxepochs"),
    "abbreviation": (["--seed", "5"], "unrecognized arguments: --seed 5: did you mean --seed_everything?"),
    "wrong type": (["--trainer.max_epochs", "many"], "--trainer.max_epochs: expected int, found many"),
    "wrong type below": (["--optimizer", "AdamW", "--optimizer.lr", "x"], "--optimizer.lr: expected float, found x"),
    "bad value": (["--model.label_smoothing", "2"], r"label_smoothing must be in [0, 1), found 2.0"),
    "bad data value": (["--data.batch_size", "0"], "batch_size must be"),
    "bad rate": (["--optimizer", "AdamW", "--optimizer.lr", "-1"], "Invalid learning rate: -1.0"),
    "missing folder": (["--data", "MNISTDataModule", "--data.data_dir", "/nowhere"], "/nowhere"),
    "missing images": (["--data", "ImageFolderDataModule", "--data.data_dir", "/nowhere"], "/nowhere"),
    "missing config": (["--config", "/nowhere.yaml"], "File does not exist: '/nowhere.yaml'"),
    "missing checkpoint": (["--ckpt_path", "/nowhere.ckpt"], "no checkpoint at /nowhere.ckpt"),
    "missing weights": (["--init_from", "/nowhere.ckpt"], "no checkpoint at /nowhere.ckpt"),
    "no last": (["--ckpt_path", "last"], "no run under"),
    "bad export": (["--export", "tflite"], "--export: expected 'onnx', found tflite"),
    "bad interval": (["--save_every", "0"], "--save_every must be at least 1, found 0"),
    "figures": (["--figures_every", "0"], "--figures_every must be at least 1, found 0"),
    "linked": (["--model.num_classes", "7"], "num_classes"),
    "found in the first step": (
        [*("--optimizer", "SGD", "--lr_scheduler", "StepLR", "--lr_scheduler.step_size", "0", "--save_every", "90")],
        "--lr_scheduler StepLR: integer modulo by zero (found step_size=0)",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line_and_leaves_nothing(capsys, tmp_path, arguments, message):
    assert message in refused(capsys, tmp_path, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_test_without_a_checkpoint(capsys, tmp_path):
    assert "test needs a trained network" in refused(capsys, tmp_path, "test")


def test_broken_and_foreign_checkpoints(capsys, tmp_path, trained):
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(whole[: len(whole) // 2])
    assert "broken.ckpt: it is truncated" in refused(capsys, tmp_path / "runs", "--ckpt_path", str(broken))
    torch.save({"weights": 1}, broken)
    assert "is not a Lightning checkpoint" in refused(capsys, tmp_path / "runs", "--ckpt_path", str(broken))
    other = ["--config", str(trained / "config.yaml"), "--model.backbone", "SmallConvNet"]
    line = refused(capsys, tmp_path / "runs", "test", *other, "--ckpt_path", str(trained / "checkpoints" / "last.ckpt"))
    assert "loading state_dict" in line
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_is_not_finite_stops_the_run(capsys, tmp_path):
    line = refused(capsys, tmp_path, *SMALL, "--optimizer", "SGD", "--optimizer.lr", "1e30", "--model.l2", "1e30")
    assert "the training loss is" in line
    assert "learning rate 1e+30" in line
    assert "no step was saved before" in line
    off = ["--monitor.stop_on_non_finite", "false", "--data.val_size", "0"]
    line = refused(
        capsys, tmp_path / "off", *SMALL, "--optimizer", "SGD", "--optimizer.lr", "1e30", "--model.l2", "1e30", *off
    )
    assert "the run has ended, but not all was written" in line  # broken weights are not
    assert list((tmp_path / "off").glob("*/results.json"))


def test_a_full_disk_at_the_end_is_an_error(tmp_path, monkeypatch, capsys):
    from lightning_modules.runs import checkpoint_io

    saves = 0

    def refuse(*args):
        nonlocal saves
        saves += 1
        if saves > 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io.os, "fsync", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = refused(capsys, tmp_path, *SMALL)
    assert "last.ckpt is not the newest: No space left on device" in line
    assert any("the previous checkpoint there is kept" in str(warning.message) for warning in caught)
    (last,) = tmp_path.glob("*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 0
    assert list(tmp_path.glob("*/results.json"))


def test_the_default_run_prints_no_notes_of_libraries(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    run(tmp_path, *SMALL)
    captured = capsys.readouterr()
    assert "litlogger" not in captured.err + captured.out
    assert "tensorboard --logdir" in captured.out
    assert "--ckpt_path" in captured.out
    assert os.fspath(tmp_path) in captured.out


def printed(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        train.main(list(words))
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_is_short_and_ours_comes_first(capsys):
    text = printed(capsys, "fit", "--help")
    assert len(text.splitlines()) <= 800
    places = [text.index(f"  --{name}") for name in ("ckpt_path", "optimizer ", "data ", "model.backbone ", "trainer ")]
    assert places == sorted(places)
    assert "known subclasses" not in text
    assert "--data.help NAME" in text
    assert "--model.backbone.help NAME" in text
    assert "--data.batch_size" in printed(capsys, "--data.help", "DigitsDataModule")
    assert "--model.backbone.hidden" in printed(capsys, "fit", "--model.backbone.help", "MLP")
    assert "fit --help" in printed(capsys, "--help")
