"""`load_from_checkpoint` for files of unknown origin."""

from collections.abc import Iterable
from typing import Any, Self

from pytorch_lightning import LightningModule
from pytorch_lightning.core.saving import CHECKPOINT_PAST_HPARAMS_KEYS

from ..backbones.pretrained import weights_follow
from .checkpoint_io import read_checkpoint
from .trust import check


class CheckedLoading(LightningModule):
    """A module that checks the import paths in a checkpoint before it is rebuilt from it; see `runs.trust`."""

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        *,
        trust: Iterable[str] = (),
        **kwargs: Any,
    ) -> Self:
        """Rebuild a module from a checkpoint.

        Args:
            checkpoint_path: The file.
            map_location: Device of the weights, as in `torch.load`.
            hparams_file: Not supported: the checkpoint holds the hyperparameters.
            strict: Whether the names of the weights must match the network's.
            weights_only: False lets the file run code; None is True.
            trust: Packages or modules that the file may name, besides those that every file may.
            kwargs: Arguments in place of the saved ones, such as a `backbone` that the checkpoint cannot hold.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a checkpoint, names what it may not, or lacks an argument.
        """
        if hparams_file is not None:
            raise ValueError(f"the checkpoint holds the hyperparameters: leave out hparams_file, found {hparams_file}")
        weights_only = weights_only is not False
        checkpoint = read_checkpoint(checkpoint_path, weights_only=weights_only)
        saved = dict.items(checkpoint.get("hyper_parameters", {}))
        old = [checkpoint.get(key) for key in CHECKPOINT_PAST_HPARAMS_KEYS]  # which Lightning reads too
        check({name: value for name, value in saved if name not in kwargs}, checkpoint_path, trust)
        check(old, checkpoint_path, trust)
        try:
            with weights_follow():
                return super().load_from_checkpoint(
                    checkpoint_path, map_location, None, strict, weights_only=weights_only, **kwargs
                )
        except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError) as error:
            if str(error).startswith("Error(s) in loading state_dict"):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise ValueError(f"{checkpoint_path} cannot be rebuilt: {type(error).__name__}: {reason[:200]}") from error
