"""Calibration: how far a classifier's confidence can be trusted, and scalers that correct it."""

from .bootstrap import bootstrap_interval as bootstrap_interval
from .calibrate import CalibrationReport as CalibrationReport
from .calibrate import CalibrationResult as CalibrationResult
from .calibrate import calibrate as calibrate
from .errors import calibration_error as calibration_error
from .errors import classwise_calibration_error as classwise_calibration_error
from .errors import debiased_calibration_error as debiased_calibration_error
from .proper_scores import BrierDecomposition as BrierDecomposition
from .proper_scores import brier_decomposition as brier_decomposition
from .proper_scores import brier_score as brier_score
from .proper_scores import negative_log_likelihood as negative_log_likelihood
from .reliability import reliability_diagram as reliability_diagram
from .running import BrierScore as BrierScore
from .running import CalibrationError as CalibrationError
from .running import ClasswiseCalibrationError as ClasswiseCalibrationError
from .running import NegativeLogLikelihood as NegativeLogLikelihood
from .scalers import CalibratedNetwork as CalibratedNetwork
from .scalers import DirichletCalibration as DirichletCalibration
from .scalers import HistogramBinning as HistogramBinning
from .scalers import IsotonicCalibration as IsotonicCalibration
from .scalers import PlattScaling as PlattScaling
from .scalers import Scaler as Scaler
from .scalers import TemperatureScaling as TemperatureScaling
from .scalers import VectorScaling as VectorScaling
from .smooth import smooth_calibration_error as smooth_calibration_error
