"""Optimizers with torch.optim's conventions: LAMB, COCOB, SAM and Muon; and a moving average of weights."""

from .averaging import MovingAverage as MovingAverage
from .cocob import COCOB as COCOB
from .lamb import LAMB as LAMB
from .muon import Muon as Muon
from .sam import SAM as SAM
