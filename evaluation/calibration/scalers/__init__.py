"""Scalers, which stand behind a trained classifier and make its probabilities calibrated.

All have one interface, `fit(logits, labels)`, `predict_proba(logits)`, `get_params()`, and fitted attributes with a
trailing underscore; each is also a module from logits to calibrated logits.
"""

from .base import Scaler as Scaler
from .dirichlet import DirichletCalibration as DirichletCalibration
from .histogram import HistogramBinning as HistogramBinning
from .isotonic import IsotonicCalibration as IsotonicCalibration
from .network import CalibratedNetwork as CalibratedNetwork
from .platt import PlattScaling as PlattScaling
from .temperature import TemperatureScaling as TemperatureScaling
from .vector import VectorScaling as VectorScaling
