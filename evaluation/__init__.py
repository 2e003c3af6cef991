"""Evaluation of classifiers: calibration error as a function and as a metric.

Figures are in ``evaluation.figures``; the Lightning callbacks that write them to TensorBoard are in
``evaluation.callbacks``.
"""

from .metrics import CalibrationError as CalibrationError
from .metrics import calibration_error as calibration_error
