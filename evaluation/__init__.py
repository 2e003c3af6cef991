"""Evaluation of classifiers: calibration metrics, scalers, reliability diagrams.

Importing `evaluation.explanation` lets eli5 explain any `torch.nn.Module`. The figures of a classifier's mistakes are
in `evaluation.figures`, the Lightning callbacks that write figures and calibration errors to TensorBoard in
`evaluation.callbacks`.
"""

from .calibration import BrierDecomposition as BrierDecomposition
from .calibration import BrierScore as BrierScore
from .calibration import CalibratedNetwork as CalibratedNetwork
from .calibration import CalibrationError as CalibrationError
from .calibration import CalibrationReport as CalibrationReport
from .calibration import CalibrationResult as CalibrationResult
from .calibration import ClasswiseCalibrationError as ClasswiseCalibrationError
from .calibration import DirichletCalibration as DirichletCalibration
from .calibration import HistogramBinning as HistogramBinning
from .calibration import IsotonicCalibration as IsotonicCalibration
from .calibration import NegativeLogLikelihood as NegativeLogLikelihood
from .calibration import PlattScaling as PlattScaling
from .calibration import TemperatureScaling as TemperatureScaling
from .calibration import VectorScaling as VectorScaling
from .calibration import bootstrap_interval as bootstrap_interval
from .calibration import brier_decomposition as brier_decomposition
from .calibration import brier_score as brier_score
from .calibration import calibrate as calibrate
from .calibration import calibration_error as calibration_error
from .calibration import classwise_calibration_error as classwise_calibration_error
from .calibration import debiased_calibration_error as debiased_calibration_error
from .calibration import negative_log_likelihood as negative_log_likelihood
from .calibration import reliability_diagram as reliability_diagram
from .calibration import smooth_calibration_error as smooth_calibration_error
