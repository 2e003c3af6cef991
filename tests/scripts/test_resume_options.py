"""Options of `train.py` that are typed on resume count, or are said not to."""

import pytest
import torch
import yaml

import train

SMALL = ["--data", "DigitsDataModule", "--data.batch_size", "256", "--model.backbone", "MLP", "--optimizer", "SGD"]
ON_CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def run(root, *words):
    return train.main(["fit", *words, *ON_CPU, "--trainer.default_root_dir", str(root)])


def again(root, *words):
    return run(root, "--ckpt_path", "last", *words)


def rate(cli):
    return cli.trainer.optimizers[0].param_groups[0]["lr"]


def said(capsys, start):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(start)]


@pytest.mark.slow
def test_options_count_and_config_yaml_says_what_was_run(tmp_path, capsys):
    cosine = ["--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "2"]
    named = ["--name", "torch.optim"]  # not an import path that needs trust
    folder = run(tmp_path, *SMALL, *named, "--optimizer.lr", "0.1", *cosine, "--trainer.max_epochs", "2").run.folder
    assert folder.name.endswith("-torch.optim")
    assert all("--trust" not in line for line in capsys.readouterr().out.splitlines())
    for command in ("fit", "test"):
        with pytest.raises(SystemExit):
            train.main([command, "--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--name", "other"])
        message = f"found 'other': the run in {folder} keeps its name 'torch.optim'\n"
        assert capsys.readouterr().err == f"error: --name belongs to a new run, {message}"
    assert again(tmp_path, *named).trainer.current_epoch == 2
    assert said(capsys, "nothing is left") == ["nothing is left to train at step 10: add --trainer.max_epochs N"]
    assert rate(again(tmp_path, "--trainer.max_epochs", "3", "--lr_scheduler.T_max", "6")) == pytest.approx(0.05)
    (line,) = said(capsys, "resumed at step 10")
    assert "lr_scheduler.T_max 2 -> 6, trainer.max_epochs 2 -> 3" in line
    again(tmp_path, "--trainer.max_epochs", "4")
    assert "; the schedule keeps T_max 6" in said(capsys, "resumed")[0]
    cli = again(tmp_path, "--trainer.max_epochs", "5", "--optimizer", "Adam", "--optimizer.lr", "0.002",
                "--lr_scheduler", "null", "--data.batch_size", "128")  # fmt: skip
    assert type(cli.trainer.optimizers[0]) is torch.optim.Adam
    assert rate(cli) == 0.002
    (line,) = said(capsys, "resumed")
    assert "anew: optimizer (Adam), schedule; as typed: " in line
    assert "data.batch_size 256 -> 128" in line
    again(tmp_path, "--resume_optimizer", "false", "--trainer.max_epochs", "6")
    assert "anew: optimizer (Adam)" in said(capsys, "resumed")[0]
    cli = again(tmp_path, "--trainer.max_epochs", "7")  # the state is dropped once, not each time
    assert said(capsys, "resumed")[0].startswith("resumed at step 40: weights, optimizer state,")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["optimizer"]["init_args"]["lr"], config["data"]["init_args"]["batch_size"]) == (0.002, 128)
    assert (config["lr_scheduler"], config["trainer"]["max_epochs"], config["ckpt_path"]) == (None, 7, None)
    assert cli.run.folder == folder


def test_a_resume_that_fails_leaves_the_run_as_it_was(tmp_path, capsys):
    folder = run(tmp_path, *SMALL, "--trainer.max_epochs", "2").run.folder
    config = (folder / "config.yaml").read_bytes()
    for words in (
        ["--trainer.max_epochs", "3", "--model.backbone", "SmallConvNet"],
        ["--trainer.max_epochs", "1"],
        ["--trainer.max_epochs", "3", "--init_from", str(folder / "checkpoints" / "best.ckpt")],
        ["--trainer.max_epochs", "3", "--data", "MNISTDataModule", "--data.data_dir", str(tmp_path / "none")],
    ):
        with pytest.raises(SystemExit):
            again(tmp_path, *words)
        assert capsys.readouterr().err.startswith("error: ")
        assert (folder / "config.yaml").read_bytes() == config
    assert again(tmp_path, "--trainer.max_epochs", "3").trainer.current_epoch == 3
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 3


def test_a_run_that_ended_by_steps_says_how_to_train_on(tmp_path, capsys):
    limit = ["--trainer.max_epochs", "-1", "--trainer.max_steps"]
    run(tmp_path, *SMALL, *limit, "7")
    assert said(capsys, "continue")[0].endswith(" --trainer.max_steps N")
    again(tmp_path, "--trainer.max_epochs", "50")  # which does not count where steps have ended it
    assert said(capsys, "nothing is left") == ["nothing is left to train at step 7: add --trainer.max_steps N"]
    assert again(tmp_path, "--trainer.max_steps", "9").trainer.global_step == 9


@pytest.mark.slow
def test_early_stopping_says_how_to_train_on(tmp_path, capsys):
    stopping = "EarlyStopping", "--trainer.callbacks.monitor", "val/nll", "--trainer.callbacks.min_delta", "9"
    patience = "--trainer.callbacks.patience"
    cli = run(tmp_path, *SMALL, "--trainer.max_epochs", "9", "--trainer.callbacks", *stopping, patience, "1")
    assert cli.trainer.current_epoch == 2
    assert said(capsys, "continue")[0].endswith(f" {patience} N")
    assert again(tmp_path).trainer.current_epoch == 2
    assert said(capsys, "nothing is left") == [f"nothing is left to train at step 10: add {patience} N"]
    assert again(tmp_path, patience, "3").trainer.current_epoch == 4
