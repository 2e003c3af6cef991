"""An optimizer of your own, in your own folder, compared with Adam over two seeds by scripts/compare.py.

    python examples/new_optimizer.py            # further options of compare.py may follow, such as --seeds 5

Trains on scikit-learn's digits; prints the table of test accuracies with its tests, and the path of the report, in a
new folder under runs/.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent


class Signum(torch.optim.Optimizer):
    """SGD along the signs of the momentum (Bernstein et al. 2018, https://arxiv.org/abs/1802.04434)."""

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state["average"] = torch.zeros_like(p)
                    state["average"].lerp_(p.grad, 1 - group["momentum"])
                    p.sub_(state["average"].sign(), alpha=group["lr"])
        return loss


def main() -> None:
    """Run compare.py with this file's folder on the path; in that folder itself, it would find the class unaided."""
    compare = [sys.executable, str(HERE.parent / "scripts" / "compare.py")]
    axis = ["--axis", "optimizer", "--values", "Adam", "new_optimizer.Signum"]
    options = sys.argv[1:] or ["--seeds", "2", "--trainer.max_epochs", "5"]
    done = subprocess.run([*compare, *axis, *options], env=os.environ | {"PYTHONPATH": str(HERE)})
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
