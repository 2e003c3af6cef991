"""A resumed run continues the CSV log from its checkpoint."""

import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.runs.loggers import CSVLog, TensorBoardLog, read_column


def table(log):
    return list(csv.DictReader(log.path.open()))


def test_rows_and_new_columns(tmp_path):
    log = CSVLog(tmp_path / "a" / "metrics.csv")
    log.log_metrics({"x": 1.5}, step=0)
    log.log_metrics({"y": 0.1, "x": 2.5}, step=7)
    log.log_metrics({"z": 3}, step=9)
    assert table(log) == [
        {"step": "0", "x": "1.5", "y": "", "z": ""},
        {"step": "7", "x": "2.5", "y": "0.1", "z": ""},
        {"step": "9", "x": "", "y": "", "z": "3.0"},
    ]
    assert read_column(log.path, "x") == [(0, 1.5), (7, 2.5)]
    with pytest.raises(ValueError, match="no column 'w': it has step, x, y, z"):
        read_column(log.path, "w")
    with pytest.raises(ValueError, match="named 'step'"):
        log.log_metrics({"step": 1.0}, step=1)


def test_a_resumed_log_drops_the_rows_after_the_checkpoint_and_keeps_the_others(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CSVLog(path)
    for step in range(5):
        log.log_metrics({"x": step / 3}, step=step)
        if step == 2:
            state = log.state_dict()
    whole = path.read_text()
    with path.open("a") as file:
        file.write("5,0.")  # a kill in the middle of a write...
    path.write_text(path.read_text() + "\n6")  # ... and a short row
    resumed = CSVLog(path)
    resumed.load_state_dict(state)
    assert resumed.rows == 3
    for step in (3, 4):
        resumed.log_metrics({"x": step / 3}, step=step)
    assert path.read_text() == whole


def test_state_of_a_longer_file_changes_nothing(tmp_path):
    log = CSVLog(tmp_path / "metrics.csv")
    log.log_metrics({"x": 1.0}, step=0)
    log.load_state_dict({"rows": 10})
    assert log.rows == 1


def test_tensorboard_hyperparameters_come_with_the_final_metrics(tmp_path):
    log = TensorBoardLog(tmp_path / "run" / "tensorboard")
    log.log_hyperparams({"lr": 0.1})
    log.log_metrics({"x": 1.0, "epoch": 0, "train/loss_window": 1.0, "val/ece": 0.5}, step=3)
    log.log_metrics({"train/loss": 2.0, "val/nll": 3.0, "train/accuracy": 0.25, "val/accuracy": 0.5}, step=3)
    log.log_hyperparams({"lr": 0.1}, {"final/test/accuracy": 0.75, "final/train/examples_per_second": 9.0}, 4)
    log.finalize("success")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    (final,) = events.Scalars("results/test/accuracy")
    assert (final.step, final.value) == (4, 0.75)  # not at step 0, beside the curves
    assert events.Scalars("x")[0].step == 3
    first = ["accuracy/train", "accuracy/val", "loss/train", "loss/val"]  # cards are sorted by their tags
    assert sorted(events.Tags()["scalars"]) == [*first, "results/test/accuracy", "train/loss_window", "val/ece", "x"]
    assert [events.Scalars(tag)[0].value for tag in first] == [0.25, 0.5, 2.0, 3.0]
    assert b"lr" in events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert "_hparams_/experiment" not in events.summary_metadata  # from which alone all runs' columns would be taken
    assert not (tmp_path / "run" / "tensorboard" / "hparams.yaml").exists()
