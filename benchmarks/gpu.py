"""Measure this project on a graphics card: one command, at most eight minutes.

    python benchmarks/gpu.py                                   # every part, in the order below
    python benchmarks/gpu.py --only step optimizers --minutes 5
    python benchmarks/gpu.py --data FOLDER                     # images of class folders instead of random ones
    python benchmarks/gpu.py --device cpu --quick              # tiny sizes: only whether it runs

Parts: input (one batch of the resident path), step (a training step of resnet20: hand-written, captured,
scripts/train.py captured, compiled and captured, eager, and with each optimizer, the usual Lightning idiom),
optimizers, activations, kmeans, compiled (torch.compile of a step), tests (the tests marked `gpu`).

Only if named: record (the CIFAR-10 speed record: a plain script, scripts/train.py, the package airbench) and
experiments (optimizers and activations on CIFAR-10 by scripts/compare.py, at most six minutes), whose results are
`results/cifar10-<device>.json`. Both want --data.

Each part is a process of its own that is killed, with all its children, when its time is over. Its rows are written
to `results/gpu-<device>.json` while it runs, so that what was measured stays; a row that fails holds its error, and the
part goes on. Nothing is downloaded, and the project need not be installed.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Not this folder, whose files have the packages' names; it comes last, for `_gpu`.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != HERE]
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "scripts")]
sys.path.append(str(HERE))

from _gpu.driver import main

if __name__ == "__main__":
    sys.exit(main())
