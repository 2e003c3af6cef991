"""A run that is killed at any moment, any number of times, ends like an uninterrupted run."""

import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from lightning_modules.runs.loggers import read_column

pytestmark = pytest.mark.slow
RUN = [
    *(
        "--model.backbone",
        "MLP",
        "--model.backbone.dropout",
        "0.3",
        "--data.flip",
        "random",
        "--data.batch_size",
        "128",
    ),
    *("--trainer.max_epochs", "8", "--trainer.log_every_n_steps", "3", "--save_every", "4", "--figures_every", "99"),
    *("--trainer.accelerator", "cpu", "--trainer.num_sanity_val_steps", "1"),
]

# Each run is a fork of a server that has imported everything once: as fresh as a new process, and much faster.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["train"])


@pytest.fixture(scope="module", autouse=True)
def server():
    """Start the process server with the module path of pytest, which it does not inherit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()


def _run(arguments: list[str], kill_at: str | None, log: Path) -> None:
    """Train, and die at the named moment; the body of a process, whose output goes into a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    import train

    if kill_at is not None:
        _arm(*kill_at.split(":"))
    train.main(arguments)


def _arm(moment: str, count: str) -> None:
    from lightning_modules import ImageClassifier
    from lightning_modules.runs import checkpoint_io

    left = int(count)

    def dying(function, of=signal.SIGKILL):
        def wrapper(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == -1:
                os.kill(os.getpid(), of)
            return function(*args, **kwargs)

        return wrapper

    if moment in ("SIGTERM", "SIGINT"):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes of a shell ignore it
        ImageClassifier.training_step = dying(ImageClassifier.training_step, signal.Signals[moment])
    elif moment == "SIGTERM in the test":
        ImageClassifier.test_step = dying(ImageClassifier.test_step, signal.SIGTERM)
    elif moment == "SIGTERM in predict":
        ImageClassifier.predict_step = dying(ImageClassifier.predict_step, signal.SIGTERM)
    elif moment == "validation":
        ImageClassifier.validation_step = dying(ImageClassifier.validation_step)
    elif moment == "step":
        ImageClassifier.training_step = dying(ImageClassifier.training_step)
    elif moment == "before the rename":
        checkpoint_io.os.replace = dying(os.replace)
    elif moment == "half written":
        whole = torch.save

        def half(checkpoint, file):
            nonlocal left
            left -= 1
            if left < 0:
                file.write(b"PK\x03\x04 half a checkpoint")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            whole(checkpoint, file)

        checkpoint_io.torch.save = half


def start(root: Path, *more: str, kill_at: str | None = None):
    arguments = [*RUN, "--trainer.default_root_dir", str(root), *more]
    process = PROCESSES.Process(target=_run, args=(arguments, kill_at, printed(root)))
    process.start()
    return process


def printed(root: Path) -> Path:
    """Return the file with the output of the runs under `root`."""
    return root.with_suffix(".log")


def finish(process) -> int | None:
    process.join(timeout=240)
    return process.exitcode


def resume(root: Path, kill_at: str | None = None):
    """Repeat the command, with `--ckpt_path last` if the run has a checkpoint."""
    started = any(root.glob("*/checkpoints/last.ckpt"))
    return start(root, *(("--ckpt_path", "last") if started else ()), kill_at=kill_at)


def outcome(root: Path) -> tuple[dict[str, torch.Tensor], dict[str, list[tuple[int, float]]], str]:
    """Return the final weights, all curves, and the configuration of the only run that has checkpoints."""
    (last,) = root.glob("*/checkpoints/last.ckpt")
    run = last.parent.parent
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    logged = {name: read_column(run / "metrics.csv", name) for name in header[1:] if "second" not in name}
    assert (run / "results.json").exists()
    return torch.load(last, weights_only=True)["state_dict"], logged, (run / "config.yaml").read_text()


def same(left, right) -> None:
    for name, weight in left[0].items():
        assert torch.equal(weight, right[0][name]), name
    assert left[1] == right[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and its duration."""
    root = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    assert finish(start(root)) == 0
    return outcome(root), time.monotonic() - began


def test_the_run_logs_every_epoch(whole):
    weights, logged, _ = whole[0]
    assert len(logged["train/loss"]) == len(logged["val/accuracy"]) == 8
    assert sum(weight.numel() for weight in weights.values()) > 1000


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_random_moments(tmp_path, whole, seed):
    draw, kills = random.Random(seed), 0
    process = start(tmp_path)
    config = None
    while kills < 6:
        time.sleep(draw.uniform(0.1, 0.9) * whole[1])
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        killed = finish(process)
        assert killed in (0, -signal.SIGKILL)  # 0: it has finished before the kill; its last checkpoint is resumed
        kills += 1
        for path in tmp_path.glob("*/checkpoints/last.ckpt"):
            config = config or (path.parent.parent / "config.yaml").read_text()
        process = resume(tmp_path)
    assert finish(process) == 0
    result = outcome(tmp_path)
    same(result, whole[0])
    assert config in (None, result[2])


MOMENTS = ("step:0", "step:17", "validation:0", "validation:4", "before the rename:0", "before the rename:5")


@pytest.mark.parametrize("kill_at", [*MOMENTS, "half written:6"])
def test_kills_at_chosen_moments(tmp_path, whole, kill_at):
    process = start(tmp_path, kill_at=kill_at)
    assert finish(process) == -signal.SIGKILL
    assert finish(resume(tmp_path, kill_at="validation:3")) == -signal.SIGKILL
    assert finish(resume(tmp_path)) == 0
    same(outcome(tmp_path), whole[0])


def test_sigterm_saves_and_ends_cleanly(tmp_path, whole):
    process = start(tmp_path, kill_at="SIGTERM:17")
    assert finish(process) == 143
    assert "continue with\n  python scripts/train.py fit --ckpt_path" in printed(tmp_path).read_text()
    (last,) = tmp_path.glob("*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 18  # the step at which the signal came is finished
    assert not list(tmp_path.glob("**/.*partial"))
    assert finish(resume(tmp_path)) == 0
    same(outcome(tmp_path), whole[0])


def test_ctrl_c_prints_how_to_continue(tmp_path, whole):
    process = start(tmp_path, kill_at="SIGINT:17")
    assert finish(process) == 130
    assert "continue from the last checkpoint with\n  python scripts/train.py fit" in printed(tmp_path).read_text()
    assert "Traceback" not in printed(tmp_path).read_text()
    assert finish(resume(tmp_path)) == 0
    same(outcome(tmp_path), whole[0])


def test_sigterm_after_the_training(tmp_path, whole):
    """In the final test, and in a prediction, which leaves no half of a file."""
    assert finish(start(tmp_path, kill_at="SIGTERM in the test:0")) == 143
    assert not list(tmp_path.glob("*/results.json"))
    assert finish(resume(tmp_path)) == 0
    same(outcome(tmp_path), whole[0])
    before = sorted(next(tmp_path.glob("*/checkpoints")).parent.iterdir())
    arguments = ["predict", "--ckpt_path", "last", "--trainer.accelerator", "cpu", "--trainer.default_root_dir"]
    process = PROCESSES.Process(
        target=_run, args=([*arguments, str(tmp_path)], "SIGTERM in predict:0", printed(tmp_path))
    )
    process.start()
    assert finish(process) == 143
    assert "stopped by SIGTERM; start again with\n  python scripts/train.py predict" in printed(tmp_path).read_text()
    assert sorted(next(tmp_path.glob("*/checkpoints")).parent.iterdir()) == before


def test_resume_from_best_is_exact_and_has_a_new_folder(tmp_path, whole):
    assert finish(start(tmp_path, kill_at="validation:5")) == -signal.SIGKILL
    (best,) = tmp_path.glob("*/checkpoints/best.ckpt")
    before = sorted(path.name for path in best.parent.parent.iterdir())
    time.sleep(1.1)  # the names of run folders have a resolution of one second
    assert finish(start(tmp_path, "--ckpt_path", str(best))) == 0
    assert sorted(path.name for path in best.parent.parent.iterdir()) == before
    finished = next(path for path in tmp_path.glob("*/checkpoints/last.ckpt") if path.parent != best.parent)
    weights = torch.load(finished, weights_only=True)["state_dict"]
    for name, weight in whole[0][0].items():
        assert torch.equal(weight, weights[name]), name


def test_last_without_a_run_is_an_error(tmp_path):
    assert finish(start(tmp_path, "--ckpt_path", "last")) == 1
    assert "no run under" in printed(tmp_path).read_text()
    assert list(tmp_path.iterdir()) == []


def test_last_skips_a_truncated_checkpoint(tmp_path):
    assert finish(start(tmp_path, "--trainer.max_epochs", "1")) == 0
    (good,) = tmp_path.glob("*/checkpoints/last.ckpt")
    newer = tmp_path / "99990101-000000" / "checkpoints" / "last.ckpt"
    newer.parent.mkdir(parents=True)
    newer.write_bytes(good.read_bytes()[:1000])
    assert finish(start(tmp_path, "--ckpt_path", "last", "--trainer.max_epochs", "2")) == 0
    assert "truncated" in printed(tmp_path).read_text()
    assert torch.load(good, weights_only=True)["epoch"] == 2
