"""The checkpoint of the best validation of a run, its resumed parts included."""

import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from ..metrics import HIGHER_IS_BETTER, direction
from ..runs.checkpoint_io import read_checkpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps one file with the best value of a metric, saved after validation.

    Lightning's ModelCheckpoint forgets the best value when a run continues in another folder, and when the file was
    written after the checkpoint from which the run continues. This one reads the value from the file, and copies the
    file of the earlier part into the folder of the new one. A value that is not finite is never the best.

    Args:
        path: The file.
        monitor: Name of the metric, which a validation must log.
        mode: `"min"` or `"max"`. None: the direction that `metrics.direction` knows.

    Raises:
        ValueError: If `mode` is None and the direction of the metric is not known; before training, if the validation
            that checks the code has not logged the metric.

    >>> BestCheckpoint("runs/one/checkpoints/best.ckpt", "val/accuracy").mode
    'max'
    """

    def __init__(self, path: str | Path, monitor: str, mode: str | None = None) -> None:
        mode = mode or direction(monitor)
        if mode is None:
            known = ", ".join(f"val/{name}" for name in HIGHER_IS_BETTER if name != "loss")
            raise ValueError(
                f"monitor_metric: whether more or less of {monitor!r} is better is not known (it is of {known}): "
                "give monitor_mode, min or max"
            )
        self.path = Path(path).absolute()
        super().__init__(
            self.path.parent,
            filename=self.path.stem,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,  # a checkpoint saved there does not resume exactly
            enable_version_counter=False,
        )
        self._loaded: dict[str, Any] | None = None
        self._in_file: Tensor | None = None  # value of a file that the process before this one has written

    @property
    def state_key(self) -> str:
        """Return the key in a checkpoint, which begins as that of Lightning's class, for tools that look for it."""
        return f"ModelCheckpoint.best{{'monitor': {self.monitor!r}, 'mode': {self.mode!r}}}"

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a metric that this validation has not logged."""
        logged = sorted(trainer.callback_metrics)
        if logged and self.monitor not in logged:
            raise ValueError(
                f"monitor_metric: a validation logs no {self.monitor!r}: give one of {', '.join(logged)} "
                "(a metric that is not logged in the check before training needs num_sanity_val_steps=0)"
            )

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Find the state under the key that older versions gave it."""
        _rename(checkpoint, self.state_key)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """Return whether a value is finite and better than the best so far."""
        if current is None or not current.isfinite() or not super().check_monitor_top_k(trainer, current):
            return False
        worse = torch.gt if self.mode == "min" else torch.lt
        return self._in_file is None or not bool(worse(current, self._in_file.to(current.device)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._loaded = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue from the best value of the earlier part."""
        super().on_train_start(trainer, pl_module)
        if self._loaded is not None:
            score = self._loaded["best_model_score"]
            found = self._adopt(score, self._loaded["best_model_path"]) if trainer.is_global_zero else None
            self._in_file = trainer.strategy.broadcast(found)
            if self._in_file is not None and score is not None:
                self.best_model_path = self.kth_best_model_path = str(self.path)
                self.best_k_models = {str(self.path): score}
                self.best_model_score = self.kth_value = score
            self._loaded = None

    def _adopt(self, score: Tensor | None, earlier: str) -> Tensor | None:
        """Return the value of the file, after copying it from the folder of the earlier part if there is none."""
        # A run that continues from an older checkpoint must not get what its predecessor found later.
        if not self.path.is_file() and score is not None and self._value(Path(earlier)) == score:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(earlier, self.path)
        return self._value(self.path)

    def _value(self, path: Path) -> Tensor | None:
        try:
            value = _rename(read_checkpoint(path), self.state_key)["callbacks"][self.state_key]["best_model_score"]
        except (OSError, ValueError, LookupError, TypeError):  # there is none, it is damaged, or of another metric
            return None
        return value if isinstance(value, Tensor) else None


def _rename(checkpoint: dict[str, Any], key: str) -> dict[str, Any]:
    """Give the state of this callback the key that it has today; return the checkpoint."""
    states, options = checkpoint.get("callbacks", {}), key.partition("{")[2].rstrip("}")
    old = next((name for name in states if name.startswith(f"BestCheckpoint{{{options},")), None)
    if old is not None:
        states[key] = states.pop(old)
    return checkpoint
