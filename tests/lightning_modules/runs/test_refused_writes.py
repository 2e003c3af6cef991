"""Loggers whose writes the disk refuses drop rows, warn once, and continue when there is room again."""

import contextlib
import resource
import warnings

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.runs.loggers import CSVLog, TensorBoardLog, read_column


@contextlib.contextmanager
def files_up_to(size):
    """Let the operating system refuse files that grow larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def log(logger, steps):
    for step in steps:
        logger.log_metrics({"loss": float(step)}, step=step)
        logger.save()


def logged_while_full(logger, size):
    log(logger, range(5))
    with (
        files_up_to(size(logger)),
        pytest.warns(UserWarning, match="were not written: File too large; training con") as told,
    ):
        log(logger, range(5, 50))
    assert len(told) == 1
    assert logger.dropped > 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log(logger, range(60, 65))


def test_csv(tmp_path):
    logger = CSVLog(tmp_path / "metrics.csv")
    logged_while_full(logger, lambda logger: logger.path.stat().st_size + 20)
    steps = [step for step, _ in read_column(logger.path, "loss")]
    assert steps[:6] == list(range(6))
    assert steps[-5:] == list(range(60, 65))
    assert logger.rows == len(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    with files_up_to(0), pytest.warns(UserWarning, match="were not written"):
        again = CSVLog(logger.path)
    with files_up_to(50):
        again.log_metrics({"new": 1.0}, step=50)  # would rewrite the file
    assert again.rows == logger.rows
    assert read_column(logger.path, "loss")[-1] == (64, 64.0)


def test_tensorboard(tmp_path):
    logger = TensorBoardLog(tmp_path / "tensorboard")

    def size(logger):
        (file,) = (tmp_path / "tensorboard").iterdir()
        return file.stat().st_size + 70

    logged_while_full(logger, size)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    steps = [event.step for event in events.Scalars("loss")]
    assert steps[:5] == list(range(5))
    assert steps[-5:] == list(range(60, 65))


def test_no_room_for_a_first_event(tmp_path):
    logger = TensorBoardLog(tmp_path / "tensorboard")
    with files_up_to(0), pytest.warns(UserWarning, match="were not written"):
        log(logger, range(3))
    assert list((tmp_path / "tensorboard").iterdir()) == []
    log(logger, [7])
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [7]
