"""Lightning callbacks that evaluate a classifier at each validation, from the outputs of its steps.

They read what ``validation_step`` and ``test_step`` return: a dictionary with ``"logits"`` ``[N, K]`` and ``"labels"``
``[N]``. The first validation loader is the validation split (``val/...``), a second one the test split, watched during
training (``test/...``); further loaders are left out.
"""

from .calibration_monitor import CalibrationMonitor as CalibrationMonitor
from .mistakes_monitor import MistakesMonitor as MistakesMonitor
