"""How often a training draws the figures of its validations."""

from typing import Any

from pytorch_lightning import Callback

SETS = 20
"""About how many sets of figures a training draws by default: on a GPU one can take longer than an epoch."""


def figure_callbacks(config: Any) -> list[Callback]:
    """Return the callbacks that draw calibration and mistakes, every `figures_every` epochs and in the last one."""
    from evaluation.callbacks import CalibrationMonitor, MistakesMonitor  # which the help does not need

    every = config.figures_every or max(1, (config.trainer.max_epochs or 1) // SETS)
    return [CalibrationMonitor(every_n_epochs=every), MistakesMonitor(every_n_epochs=every)]
