"""Slow, readable twins of the optimizers, in float64: what the tests compare with.

Each follows its paper line by line, one tensor (COCOB: one number) at a time, and shares no code with the optimizer
that it checks.

Example:
    >>> import torch
    >>> from optim.reference import SlowLAMB
    >>> w, gradient = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, -1.0]])
    >>> SlowLAMB(w, lr=0.1, eps=0.0, weight_decay=0.0).step(gradient)  # |w| = 5, |r| = sqrt(2)
    tensor([[2.6464, 4.3536]], dtype=torch.float64)
"""

from .cocob import SlowCOCOB as SlowCOCOB
from .lamb import SlowLAMB as SlowLAMB
from .muon import SlowMuon as SlowMuon
from .sam import SlowSAM as SlowSAM
from .sam import perturbation as perturbation
