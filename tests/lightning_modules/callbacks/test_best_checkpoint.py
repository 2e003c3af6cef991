"""The direction of the metric, metrics that nothing logs, and checkpoints of older versions."""

import pytest
import pytorch_lightning as pl
import torch

from lightning_modules import ImageClassifier
from lightning_modules.callbacks.best_checkpoint import BestCheckpoint
from reference.tiny import TinyLoader


def fit(callback, **options):
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[callback],
    )  # fmt: skip
    trainer.fit(ImageClassifier("MLP", 2, (5,)), TinyLoader(3), TinyLoader(1), **options)
    return trainer


@pytest.mark.parametrize(("metric", "mode"), [("val/accuracy", "max"), ("val/nll", "min")])
def test_the_best_value_is_kept(tmp_path, metric, mode):
    values = []

    class Best(BestCheckpoint):
        def on_validation_end(self, trainer, pl_module):
            super().on_validation_end(trainer, pl_module)
            if not trainer.sanity_checking:
                values.append(trainer.callback_metrics[metric].item())

    best = Best(tmp_path / "best.ckpt", metric)
    fit(best)
    states = torch.load(best.path, weights_only=True)["callbacks"]
    (state,) = [state for name, state in states.items() if name.startswith("ModelCheckpoint")]
    assert state["current_score"] == {"max": max, "min": min}[mode](values)


def test_the_direction_of_an_unknown_metric_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"'val/f1'.*val/nll, val/accuracy.*monitor_mode"):
        BestCheckpoint(tmp_path / "best.ckpt", "val/f1")


@pytest.mark.parametrize("metric", ["val/f1", "train/accuracy", "test/accuracy", "val/top5_accuracy"])
def test_a_metric_that_nothing_logs_is_found_before_training(tmp_path, metric):
    with pytest.raises(ValueError, match=rf"no '{metric}': give one of val/accuracy, val/nll"):
        fit(BestCheckpoint(tmp_path / "best.ckpt", metric, "max"))
    assert not list(tmp_path.iterdir())


def test_the_state_of_an_older_checkpoint_is_found(tmp_path):
    best = BestCheckpoint(tmp_path / "best.ckpt", "val/nll")
    fit(best)
    saved = torch.load(best.path, weights_only=True)
    older = "BestCheckpoint{'monitor': 'val/nll', 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
    saved["callbacks"][older + "'train_time_interval': None}"] = saved["callbacks"].pop(best.state_key)
    torch.save(saved, tmp_path / "old.ckpt")
    again = BestCheckpoint(tmp_path / "new.ckpt", "val/nll")
    fit(again, ckpt_path=tmp_path / "old.ckpt", weights_only=True)  # which is at its end
    assert again.best_model_score is None or again.best_model_score <= best.best_model_score
    again.on_load_checkpoint(None, None, saved)
    assert again.state_key in saved["callbacks"]
