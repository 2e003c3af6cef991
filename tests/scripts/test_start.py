"""The lines with which train.py starts, and the number of threads."""

import os

import pytest
import torch

import train
from _common import threads

SMALL = [
    "--data",
    "DigitsDataModule",
    "--model.backbone",
    "MLP",
    "--trainer.max_epochs",
    "3",
    "--trainer.accelerator",
    "cpu",
]


def said(capsys, root, *words):
    train.main([*SMALL, "--trainer.default_root_dir", str(root), "--trainer.limit_train_batches", "2", *words])
    return capsys.readouterr().out


def test_the_start_says_what_is_trained_and_the_end_why_it_stopped(tmp_path, capsys):
    stop = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val/nll"]
    stop += ["--trainer.callbacks.min_delta", "100", "--trainer.callbacks.patience", "1"]
    text = said(capsys, tmp_path, *stop)
    assert "network     MLP, 50,826 parameters\n" in text
    assert "data        DigitsDataModule: 1,258 train, 180 val, 359 test; batches of 128\n" in text
    assert "optimizer   AdamW, learning rate 0.005; schedule: one cycle over the whole training\n" in text
    assert f"device      cpu, {torch.get_num_threads()} thread" in text
    assert text.count("stopped early: Monitored metric val/nll did not improve") == 1
    assert "test/accuracy" not in text.split("best checkpoint")[0]  # which is not watched


def test_a_named_optimizer_has_no_schedule_and_that_is_said(tmp_path, capsys):
    text = said(capsys, tmp_path, "--optimizer", "AdamW", "--trainer.max_epochs", "1")
    assert "optimizer   AdamW, learning rate 0.001; schedule: constant (--schedule TEXT or --lr_scheduler NAME" in text
    assert "stopped early" not in text


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, 99),
        ({"cpu.max": "max 100000"}, 99),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 99),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_available_cpus(tmp_path, monkeypatch, files, most):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.available_cpus(tmp_path) == min(8, most)


def test_threads(monkeypatch, capsys):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(threads, "available_cpus", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    threads.set_threads(None)  # as the environment says
    threads.set_threads(3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads.set_threads(None)
    assert chosen == [3, 4]
    for load, busy in ((0.5, False), (9.0, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0, 0))
        threads.warn_if_busy()
        assert ("--threads 1" in capsys.readouterr().err) == busy
