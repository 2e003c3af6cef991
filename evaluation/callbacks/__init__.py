"""Lightning callbacks that evaluate a classifier at each validation, from the outputs of its steps.

They use the return value of `validation_step` and `test_step`: a dictionary with `"logits"` `[N, K]` and `"labels"`
`[N]`. The first validation loader is the validation split (`val/...`), a second one the test split, logged during
training (`test/...`); further loaders are ignored.
"""

from .calibration_monitor import CalibrationMonitor as CalibrationMonitor
from .mistakes_monitor import MistakesMonitor as MistakesMonitor
