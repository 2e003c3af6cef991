"""Uncertainty of a classifier: conformal sets, risk and coverage, inputs unlike the training data."""

from .conformal import ConformalSets as ConformalSets
from .outliers import KNearestScore as KNearestScore
from .outliers import energy as energy
from .outliers import max_probability as max_probability
from .outliers import separation as separation
from .selective import aurc as aurc
from .selective import risk_coverage as risk_coverage
