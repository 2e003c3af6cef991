"""Evaluation of classifiers: calibration metrics, scalers that calibrate, reliability diagrams.

Importing ``evaluation.explanation`` teaches eli5 to explain any ``torch.nn.Module``, on top of its modules
``grad_cam``, ``integrated_gradients``, ``permutation`` and ``faithfulness``.
The figures of a classifier's mistakes are in ``evaluation.figures``; the Lightning callbacks that write figures and
calibration errors to TensorBoard are in ``evaluation.callbacks``.
"""

from .calibration.bootstrap import bootstrap_interval as bootstrap_interval
from .calibration.calibrate import CalibrationReport as CalibrationReport
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
from .calibration.scalers import CalibratedNetwork as CalibratedNetwork
from .calibration.scalers import DirichletCalibration as DirichletCalibration
from .calibration.scalers import HistogramBinning as HistogramBinning
from .calibration.scalers import IsotonicCalibration as IsotonicCalibration
from .calibration.scalers import PlattScaling as PlattScaling
from .calibration.scalers import TemperatureScaling as TemperatureScaling
from .calibration.scalers import VectorScaling as VectorScaling
from .calibration.smooth import smooth_calibration_error as smooth_calibration_error
