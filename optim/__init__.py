"""Optimizers with torch.optim's conventions: LAMB, COCOB and SAM; and a moving average of weights."""

from .averaging import MovingAverage as MovingAverage
from .cocob import COCOB as COCOB
from .lamb import LAMB as LAMB
from .sam import SAM as SAM
