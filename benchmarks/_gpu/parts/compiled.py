"""One training step of resnet20 with torch.compile: by hand, and by `scripts/train.py --model.compile true`."""

from functools import partial

from ..clocked import QUICK, Plan
from ..loops import compiled
from ..rows import Bench
from ..trainers import ours
from .step import SGD, Batches, Variant, measure, settings

VARIANTS = [
    Variant("by hand, compiled (reduce-overhead)", compiled, "ready", cudnn_benchmark=True),
    Variant("train.py, SGD, --model.compile true", partial(ours, (*SGD, "--model.compile", "true"))),
]


def run(bench: Bench) -> None:
    """Time each, and trace it after all have been timed."""
    plan = QUICK if bench.quick else Plan()
    own = {setting: Batches(bench, setting) for setting in settings(bench)[:2]}
    for setting, batches in own.items():
        for variant in VARIANTS:
            todo = partial(measure, bench, setting, batches, variant, plan, False)
            bench.measure(setting.name, variant.name, todo)
    for setting, batches in own.items():
        for variant in VARIANTS:
            bench.add_trace(setting.name, variant.name, partial(measure, bench, setting, batches, variant, plan, True))
