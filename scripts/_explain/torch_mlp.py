"""A multilayer perceptron in PyTorch as scikit-learn's estimator, to stand beside scikit-learn's models."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.backbones import MLP

Array = npt.NDArray[Any]
BATCH = 64
EVERY = 25
"""Steps between two looks at the held-out rows."""


class Affine(nn.Module):
    """Multiply and add constants, value by value: ``(x - shift) / scale``.

    Args:
        shift: ``[D]``.
        scale: ``[D]``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Array, scale: Array) -> None:
        super().__init__()
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, rows: Tensor) -> Tensor:
        """Return ``[N, D]``."""
        return (rows - self.shift) / self.scale


class _TorchMLP(BaseEstimator):
    """What regression and classification share: the network takes rows as they are, and standardises them itself.

    A share of the rows is held out of training; the weights that did best on them are kept.

    Args:
        hidden: Widths of the hidden layers.
        steps: Optimizer steps, each on 64 rows.
        lr: Highest learning rate of a one-cycle schedule.
        weight_decay: Of AdamW.
        held_out: Share of the rows to choose the weights by.
        seed: Of the weights and of the order.

    Attributes:
        net_: The trained network, in evaluation mode; rows ``[N, D]`` to scores ``[N, K]``.
        baseline_: The mean training row, float64 ``[D]``.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        steps: int = 1500,
        lr: float = 3e-3,
        weight_decay: float = 0.1,
        held_out: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.steps = steps
        self.lr = lr
        self.weight_decay = weight_decay
        self.held_out = held_out
        self.seed = seed

    def _train(self, X: Array, y: Tensor, outputs: int, loss: Any) -> nn.Sequential:
        rows = np.asarray(X, dtype=np.float64)
        self.baseline_ = rows.mean(axis=0)
        spread = rows.std(axis=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            body = MLP(outputs, (rows.shape[1],), hidden=self.hidden)
        net = nn.Sequential(Affine(self.baseline_, np.where(spread > 0, spread, 1.0)), body)
        optimizer = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps)
        inputs = torch.as_tensor(rows, dtype=torch.float32)
        order = torch.Generator().manual_seed(self.seed)
        shuffled = torch.randperm(len(inputs), generator=order)
        count = max(1, round(self.held_out * len(inputs)))
        held, kept = shuffled[:count], shuffled[count:]
        best, weights = float("inf"), net.state_dict()
        for step in range(1, self.steps + 1):
            batch = kept[torch.randint(len(kept), (BATCH,), generator=order)]
            optimizer.zero_grad()
            loss(net(inputs[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
            if step % EVERY == 0:
                with torch.no_grad():
                    now = float(loss(net(inputs[held]), y[held]))
                if now < best:
                    best, weights = now, copy.deepcopy(net.state_dict())
        net.load_state_dict(weights)
        return net.eval()

    def scores(self, X: Array) -> Tensor:
        """The network's output, float64 ``[N, K]``."""
        with torch.no_grad():
            return self.net_(torch.as_tensor(np.asarray(X), dtype=torch.float32)).double()

    net_: nn.Sequential


class TorchMLPRegressor(RegressorMixin, _TorchMLP):
    """Squared loss on the standardised target; the network's output is in the target's units."""

    def fit(self, X: Array, y: Array) -> "TorchMLPRegressor":
        """Train on rows ``[N, D]`` and numbers ``[N]``."""
        mean, spread = float(np.mean(y)), float(np.std(y)) or 1.0
        target = torch.as_tensor((np.asarray(y, dtype=np.float64) - mean) / spread, dtype=torch.float32)
        net = self._train(X, target[:, None], 1, F.mse_loss)
        self.net_ = nn.Sequential(*net, Affine(np.array([-mean / spread]), np.array([1 / spread]))).eval()
        return self

    def predict(self, X: Array) -> Array:
        """Return numbers ``[N]``."""
        return self.scores(X)[:, 0].numpy()


class TorchMLPClassifier(ClassifierMixin, _TorchMLP):
    """Cross-entropy on one logit a class."""

    def fit(self, X: Array, y: Array) -> "TorchMLPClassifier":
        """Train on rows ``[N, D]`` and classes ``[N]``."""
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.net_ = self._train(X, torch.as_tensor(labels), len(self.classes_), F.cross_entropy)
        return self

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities ``[N, K]``."""
        return self.scores(X).softmax(dim=1).numpy()

    def predict(self, X: Array) -> Array:
        """Return classes ``[N]``."""
        return self.classes_[self.scores(X).argmax(dim=1).numpy()]
