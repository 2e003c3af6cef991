"""A tuned comparison from end to end: trials that do not read the test split, fresh seeds, and a stop in between."""

import json
import multiprocessing.forkserver
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import compare
import train
from _common.cli import Option
from _compare.study import read_study
from datamodules import DigitsDataModule

ROOT = Path(__file__).parents[2]
TINY = [
    *("--data", "DigitsDataModule", "--data.batch_size", "64", "--model.backbone", "TwoLayerNet"),
    *("--trainer.max_steps", "4", "--trainer.limit_val_batches", "1", "--trainer.accelerator", "cpu"),
]
STUDY = ["--axis", "optimizer", "--values", "SGD", "COCOB", "--tune", "spaces", "--trials", "2", "--seeds", "2"]
COMMAND = [*STUDY, *TINY]


@pytest.fixture(autouse=True)
def server(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    multiprocessing.get_context("forkserver").set_forkserver_preload(["compare"])
    multiprocessing.forkserver.ensure_running()


def test_a_trial_leaves_the_test_split_unread(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the test split is read")

    monkeypatch.setattr(DigitsDataModule, "test_dataloader", refuse)
    whole = DigitsDataModule.part_indices
    read = []
    monkeypatch.setattr(DigitsDataModule, "part_indices", lambda data, part: read.append(part) or whole(data, part))
    words = ["fit", *TINY, "--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]
    cli = train.main([*words, "--evaluate_on", "val"])
    results = json.loads((cli.run.folder / "results.json").read_text())
    assert "val/accuracy" in results
    assert [name for name in results if name.startswith("test/")] == []
    assert set(read) == {"train", "val"}


@pytest.mark.slow
def test_a_stopped_study_ends_like_a_whole_one(tmp_path, capsys):
    output, record = tmp_path / "study", tmp_path / "results" / "tiny.json"
    arguments = [*COMMAND, "--output", str(output), "--results", str(record), "--baseline", "SGD", "--jobs", "2"]
    first = compare.main(arguments)
    tuning = json.loads((output / "tuning.json").read_text())
    assert [(run["name"], run["trial"]) for run in tuning["runs"]] == [("SGD", 0), ("SGD", 1)]
    assert tuning["self_tuning"] == ["COCOB"]
    for place in output.glob("trials/SGD/*/*/results.json"):
        assert not any(name.startswith("test/") for name in json.loads(place.read_text()))
    assert list(first["table"]) == ["SGD, tuned", "COCOB"]
    assert first["baseline"] == "SGD, tuned"
    tuned = {run["seed"] for run in tuning["runs"]}
    assert tuned.isdisjoint(run["seed"] for run in first["runs"])
    best = max(tuning["runs"], key=lambda run: run["value"])
    assert tuning["chosen"]["SGD"]["values"] == best["values"]
    config = (next(output.glob("SGD-tuned/seed-0/*/config.yaml"))).read_text()
    assert f"lr: {float(best['values']['optimizer.lr'])}" in config
    for name, runs in (("SGD-tuned", "SGD, tuned"), ("COCOB", "COCOB")):
        files = [np.load(path) for path in sorted(output.glob(f"{name}/*/*/predictions.npz"))]
        accuracies = [run["metrics"]["test/accuracy"] for run in first["runs"] if run["name"] == runs]
        assert [float((one["labels"] == one["predicted"]).mean()) for one in files] == pytest.approx(accuracies)
        assert first["ensembles"][runs]["accuracy"] > 0
    written = json.loads(record.read_text())
    assert written["runs"][0]["seconds"] > 0
    assert written["environment"]["commit"]
    page = (output / "report.html").read_text()
    assert all(words in page for words in ("none: it tunes itself", "of training", 'id="sensitivity"', "all 2 trials"))
    assert all(f"{first['runs'][0]['metrics'][key]:,}" in page for key in ("parameters", "flops"))

    # As a kill during the trials leaves it.
    capsys.readouterr()
    for path in ("results.json", "tuning.json", "trials/SGD/trial-1"):
        shutil.rmtree(output / path) if (output / path).is_dir() else (output / path).unlink()
    assert compare.main(arguments) == first
    printed = capsys.readouterr().out
    assert "1 of 2 trials are finished already" in printed
    assert "4 of 4 runs are finished already" in printed


MISTAKES = {
    "no space": (
        ["--axis", "optimizer", "--values", "SGD", "Adadelta", "--tune", "spaces"], "no shipped space of Adadelta"
    ),
    "an option that is none": (
        ["--axis", "optimizer", "--values", "SGD", "--tune", "optimizer.lrr", "0..1"], "SGD, tuned: "
    ),
    "a bad end": (
        ["--axis", "optimizer", "--values", "SGD", "--tune", "optimizer.lr", "-1..1"], "Invalid learning rate: -1"
    ),
    "no validation part": (
        [*STUDY, "--data", "DigitsDataModule", "--data.val_size", "0"], "found --data.val_size 0"
    ),
    "a metric of the test split": ([*COMMAND, "--select", "test/nll"], "--select must be a metric of the validation"),
    "trials without tuning": (["--trials", "3"], "--trials belongs to tuning: add --tune OPTION SPACE"),
    "another split": ([*COMMAND, "--vary_split"], "needs data with a test set of its own, found DigitsDataModule"),
    "seeds of trials": ([*COMMAND, "--seed", "1000000"], "--seed must be below 1000000"),
    "no study": (["--study", "none.yaml"], "No such file or directory: none.yaml"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line_before_any_run(capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit):
        compare.main([*arguments, "--output", str(tmp_path / "comparison")])
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert not (tmp_path / "comparison").exists()


def test_every_fault_has_a_line(capsys):
    with pytest.raises(SystemExit):
        compare.main(["--axis", "optimizer", "--values", "SGD", "Adam(lr=-1)", "LAMB(lr=-3)", *TINY])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert lines[0].startswith("error: Adam(lr=-1): ")
    assert lines[1].startswith("error: LAMB(lr=-3): ")


def test_a_study_is_a_file_of_options(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "axis: {optimizer: [SGD(lr=0.1), COCOB], data.batch_size: [64, 128]}\n"
        "tune: {optimizer.lr: 1e-3..1 log, COCOB: none}\ntrials: 8\nseeds: 5\nvary_split: true\nx: [1, a b]\n"
    )
    assert read_study(path, [Option("seeds", ("2",))]) == [
        Option("axis", ("optimizer",)),
        Option("values", ("SGD(lr=0.1)", "COCOB")),
        Option("axis", ("data.batch_size",)),
        Option("values", ("64", "128")),
        Option("tune", ("optimizer.lr", "1e-3..1 log")),
        Option("tune", ("COCOB: none",)),
        Option("trials", ("8",)),
        Option("vary_split", ("true",)),
        Option("x", ("1",)),
        Option("x", ("a b",)),
        Option("seeds", ("2",)),
    ]
    for text, message in (("[1]", "found list"), ("axis: SGD", "axis must map"), ("data: {a: 1}", "data must be one")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_study(path, [])


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_of_this_repository_are_read(path):
    ours, axes, tunes, theirs = compare.divide(read_study(path, []))
    names = [option.name for option in ours]
    assert {"trials", "seeds", "results", "jobs"} <= set(names)
    assert next(option.words for option in ours if option.name == "results") == (f"results/{path.stem}.json",)
    assert axes
    assert tunes
    assert "data" in [option.name for option in theirs]
