"""Optimizers with torch.optim's conventions: LAMB, COCOB and SAM."""

from .cocob import COCOB as COCOB
from .lamb import LAMB as LAMB
from .sam import SAM as SAM
