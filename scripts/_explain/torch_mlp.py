"""A PyTorch multilayer perceptron as a scikit-learn estimator, for comparison with scikit-learn's models."""

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
BATCH_SIZE, MAX_LR, WEIGHT_DECAY = 64, 3e-3, 0.1
HELD_OUT, EVAL_INTERVAL = 0.15, 25
"""Share of the rows that are held out, and steps between evaluations on them."""


class Affine(nn.Module):
    """Scale each feature: `(x - shift) / scale`, with constants of shape `[D]`."""

    def __init__(self, shift: Array, scale: Array) -> None:
        super().__init__()
        self.shift, self.scale = (nn.Buffer(torch.as_tensor(one, dtype=torch.float32)) for one in (shift, scale))

    def forward(self, rows: Tensor) -> Tensor:
        """Return `[N, D]`."""
        return (rows - self.shift) / self.scale


class _TorchMLP(BaseEstimator):
    """Base of both estimators: AdamW with a one-cycle schedule; the network standardises its input itself.

    A share of the rows is held out of training, and the weights with the lowest loss on them are kept.

    `hidden` holds the widths of the hidden layers; each of the `steps` is on 64 rows.
    """

    net_: nn.Sequential  # trained, in evaluation mode: rows [N, D] to scores [N, K]
    baseline_: Array  # the mean training row, float64 [D]

    def __init__(self, hidden: tuple[int, ...] = (64, 64), steps: int = 1500, seed: int = 0) -> None:
        self.hidden, self.steps, self.seed = hidden, steps, seed

    def _train(self, X: Array, y: Tensor, outputs: int, loss: Any) -> nn.Sequential:
        rows = np.asarray(X, dtype=np.float64)
        self.baseline_, spread = rows.mean(axis=0), rows.std(axis=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            body = MLP(outputs, (rows.shape[1],), hidden=self.hidden)
        net = nn.Sequential(Affine(self.baseline_, np.where(spread > 0, spread, 1.0)), body)
        optimizer = torch.optim.AdamW(net.parameters(), lr=MAX_LR, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=self.steps)
        inputs = torch.as_tensor(rows, dtype=torch.float32)
        generator = torch.Generator().manual_seed(self.seed)
        count = max(1, round(HELD_OUT * len(inputs)))
        held_out, kept = torch.randperm(len(inputs), generator=generator).tensor_split([count])
        lowest, weights = float("inf"), net.state_dict()
        for step in range(1, self.steps + 1):
            batch = kept[torch.randint(len(kept), (BATCH_SIZE,), generator=generator)]
            optimizer.zero_grad()
            loss(net(inputs[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
            if step % EVAL_INTERVAL == 0:
                with torch.no_grad():
                    current = float(loss(net(inputs[held_out]), y[held_out]))
                if current < lowest:
                    lowest, weights = current, copy.deepcopy(net.state_dict())
        net.load_state_dict(weights)
        return net.eval()

    def scores(self, X: Array) -> Tensor:
        """Return the network's output, float64 `[N, K]`."""
        with torch.no_grad():
            return self.net_(torch.as_tensor(np.asarray(X), dtype=torch.float32)).double()


class TorchMLPRegressor(RegressorMixin, _TorchMLP):
    """Regressor: squared loss on the standardised target; the network's output is in the target's units."""

    def fit(self, X: Array, y: Array) -> "TorchMLPRegressor":
        """Train on rows `[N, D]` and targets `[N]`."""
        mean, spread = float(np.mean(y)), float(np.std(y)) or 1.0
        target = torch.as_tensor((np.asarray(y, dtype=np.float64) - mean) / spread, dtype=torch.float32)
        net = self._train(X, target[:, None], 1, F.mse_loss)
        self.net_ = nn.Sequential(*net, Affine(np.array([-mean / spread]), np.array([1 / spread]))).eval()
        return self

    def predict(self, X: Array) -> Array:
        """Return values `[N]`."""
        return self.scores(X)[:, 0].numpy()


class TorchMLPClassifier(ClassifierMixin, _TorchMLP):
    """Classifier: cross-entropy, one logit for each class."""

    def fit(self, X: Array, y: Array) -> "TorchMLPClassifier":
        """Train on rows `[N, D]` and classes `[N]`."""
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.net_ = self._train(X, torch.as_tensor(labels), len(self.classes_), F.cross_entropy)
        return self

    def predict_proba(self, X: Array) -> Array:
        """Return probabilities `[N, K]`."""
        return self.scores(X).softmax(dim=1).numpy()

    def predict(self, X: Array) -> Array:
        """Return classes `[N]`."""
        return self.classes_[self.scores(X).argmax(dim=1).numpy()]
