"""Evaluation of classifiers: calibration metrics, scalers that calibrate, reliability diagrams.

Importing ``evaluation.explanation`` teaches eli5 to explain any ``torch.nn.Module``, on top of ``evaluation.grad_cam``,
``evaluation.integrated_gradients``, ``evaluation.permutation`` and ``evaluation.faithfulness``.
The figures of a classifier's mistakes are in ``evaluation.figures``; the Lightning callbacks that write figures and
calibration errors to TensorBoard are in ``evaluation.callbacks``.
"""

from .bootstrap import bootstrap_interval as bootstrap_interval
from .classwise import classwise_calibration_error as classwise_calibration_error
from .debiased import debiased_calibration_error as debiased_calibration_error
from .metrics import calibration_error as calibration_error
from .post_hoc import CalibrationReport as CalibrationReport
from .post_hoc import calibrate as calibrate
from .proper_scores import BrierDecomposition as BrierDecomposition
from .proper_scores import brier_decomposition as brier_decomposition
from .proper_scores import brier_score as brier_score
from .proper_scores import negative_log_likelihood as negative_log_likelihood
from .reliability import reliability_diagram as reliability_diagram
from .scalers import CalibratedNetwork as CalibratedNetwork
from .scalers import DirichletCalibration as DirichletCalibration
from .scalers import HistogramBinning as HistogramBinning
from .scalers import IsotonicCalibration as IsotonicCalibration
from .scalers import PlattScaling as PlattScaling
from .scalers import TemperatureScaling as TemperatureScaling
from .scalers import VectorScaling as VectorScaling
from .smooth import smooth_calibration_error as smooth_calibration_error
from .sum_metrics import BrierScore as BrierScore
from .sum_metrics import CalibrationError as CalibrationError
from .sum_metrics import ClasswiseCalibrationError as ClasswiseCalibrationError
from .sum_metrics import NegativeLogLikelihood as NegativeLogLikelihood
