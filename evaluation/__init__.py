"""Evaluation of classifiers: calibration metrics, scalers, reliability diagrams.

Importing `evaluation.explanation` lets eli5 explain any `torch.nn.Module`. The figures of a classifier's mistakes are
in `evaluation.figures`, the Lightning callbacks that write figures and calibration errors to TensorBoard in
`evaluation.callbacks`.
"""

from .calibration.bootstrap import bootstrap_interval as bootstrap_interval
from .calibration.calibrate import CalibrationReport as CalibrationReport
from .calibration.calibrate import CalibrationResult as CalibrationResult
from .calibration.calibrate import calibrate as calibrate
from .calibration.errors import calibration_error as calibration_error
from .calibration.errors import classwise_calibration_error as classwise_calibration_error
from .calibration.errors import debiased_calibration_error as debiased_calibration_error
from .calibration.proper_scores import BrierDecomposition as BrierDecomposition
from .calibration.proper_scores import brier_decomposition as brier_decomposition
from .calibration.proper_scores import brier_score as brier_score
from .calibration.proper_scores import negative_log_likelihood as negative_log_likelihood
from .calibration.reliability import reliability_diagram as reliability_diagram
from .calibration.running import BrierScore as BrierScore
from .calibration.running import CalibrationError as CalibrationError
from .calibration.running import ClasswiseCalibrationError as ClasswiseCalibrationError
from .calibration.running import NegativeLogLikelihood as NegativeLogLikelihood
from .calibration.scalers.base import Scaler as Scaler
from .calibration.scalers.dirichlet import DirichletCalibration as DirichletCalibration
from .calibration.scalers.histogram import HistogramBinning as HistogramBinning
from .calibration.scalers.isotonic import IsotonicCalibration as IsotonicCalibration
from .calibration.scalers.network import CalibratedNetwork as CalibratedNetwork
from .calibration.scalers.platt import PlattScaling as PlattScaling
from .calibration.scalers.temperature import TemperatureScaling as TemperatureScaling
from .calibration.scalers.vector import VectorScaling as VectorScaling
from .calibration.smooth import smooth_calibration_error as smooth_calibration_error
