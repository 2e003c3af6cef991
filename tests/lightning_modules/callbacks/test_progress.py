"""The bar in a terminal, the lines in a pipe."""

import io
import re

import pytest
import pytorch_lightning as pl
from rich.console import Console

from lightning_modules.callbacks.progress import TrainingProgress
from reference.tiny import TinyLoader, TinyModule


def fit(console, epochs=3, **options):
    progress = TrainingProgress(refresh_per_second=1000, console=console)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_model_summary=False,
        callbacks=[progress], **options,
    )  # fmt: skip
    trainer.fit(TinyModule(), TinyLoader(), TinyLoader(2))


def test_a_pipe_gets_one_plain_line_an_epoch():
    out = io.StringIO()
    fit(Console(file=out, force_terminal=False))
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert [line.split("  ")[1] for line in lines] == ["step 6", "step 12", "step 18"]
    assert all("val/loss 0." in line for line in lines)
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_a_bar():
    out = io.StringIO()
    fit(Console(file=out, force_terminal=True, width=140))
    assert "\x1b" in out.getvalue()
    assert "epoch 3/3" in out.getvalue()
    assert "6/6" in out.getvalue()


def test_a_narrow_terminal_shortens_the_metrics_and_not_the_bar():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=70, color_system=None)
    module = TinyModule()
    names = [f"val/a_long_name_{i}" for i in range(9)]
    module.on_validation_epoch_end = lambda: [module.log(name, 0.5, prog_bar=True) for name in names]
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_model_summary=False,
        callbacks=[TrainingProgress(refresh_per_second=1000, console=console)],
    )  # fmt: skip
    trainer.fit(module, TinyLoader(), TinyLoader(2))
    assert "epoch 2/2 " in out.getvalue()
    assert " 6/6 " in out.getvalue()
    assert re.search(r" loss \d\S*  val/a_\w*…", out.getvalue())


def test_the_bar_is_closed_when_training_breaks():
    console = Console(file=io.StringIO(), force_terminal=True)
    module = TinyModule()
    module.training_step = lambda *args: 1 / 0
    progress = TrainingProgress(console=console)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[progress], max_epochs=1
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, TinyLoader(), TinyLoader(2))
    assert progress._bar is None


def test_bad_rate():
    with pytest.raises(ValueError, match="refresh_per_second must be positive, found 0"):
        TrainingProgress(refresh_per_second=0)


def test_a_terminal_keeps_a_line_an_epoch_and_a_full_bar_with_the_loss():
    out = io.StringIO()
    fit(Console(file=out, force_terminal=True, width=140, color_system=None))
    text = out.getvalue()
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3  step {6 * epoch}  val/loss 0." in text
    *_, last = [line for line in text.splitlines() if "━" in line]
    assert "6/6" in last
    assert " loss 0." in last


@pytest.mark.parametrize("terminal", [False, True])
def test_a_partial_epoch_has_no_numbers_of_the_validation_before(terminal):
    out = io.StringIO()
    fit(Console(file=out, force_terminal=terminal, width=140, color_system=None), epochs=-1, max_steps=8)
    lines = [line for line in out.getvalue().splitlines() if "  step " in line]
    assert "epoch 1  step 6  val/loss" in lines[0]
    assert lines[1].split("epoch 2  step 8")[1].strip() == ""


def test_epochs_without_a_validation_have_no_old_numbers():
    out = io.StringIO()
    fit(Console(file=out), epochs=3, check_val_every_n_epoch=2)
    assert ["val/loss" in line for line in out.getvalue().splitlines()] == [False, True, False]
