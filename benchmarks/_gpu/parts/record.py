"""The CIFAR-10 speed record: a plain script, scripts/train.py with its recipe, and the package airbench."""

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data import images_module
from ..rows import Bench, Row
from ..timing import spread
from ..trainers import quiet

RUNS = 5
RECIPE = Path(__file__).resolve().parents[3] / "scripts" / "recipes" / "cifar10_fast.yaml"
BATCH, QUICK_BATCH = 2000, 16
NARROW = (8, 8, 8)  # of a quick run


def summary(runs: list[dict[str, float]], base: float | None = None) -> Row:
    """Return the spread of the seconds, their ratio to a base, and the mean accuracies in percent."""
    row: Row = {"train_seconds": spread([one["seconds"] for one in runs]), "runs": len(runs)}
    for name in ("accuracy_tta", "accuracy"):
        row[name] = 100 * statistics.fmean(one[name] for one in runs)
    if len(runs) > 1:
        row["deviation"] = 100 * statistics.stdev(one["accuracy_tta"] for one in runs)
    return row if base is None else row | {"ratio": row["train_seconds"]["median"] / base}


def by_hand(bench: Bench) -> Iterator[dict[str, float]]:
    """Yield the outcomes of the plain script, after a run that is not counted."""
    script: Any = importlib.import_module("record_by_hand")
    module = images_module(bench, QUICK_BATCH if bench.quick else BATCH, crop_padding=0, flip="none")
    module.setup()
    options = {"batch": QUICK_BATCH, "widths": NARROW} if bench.quick else {}
    program = script.Program(script.read(module), bench.device, compile=bench.cuda, **options)
    program.run(0)
    for seed in range(1, runs(bench) + 1):
        yield program.run(seed)


def ours(bench: Bench, precision: str) -> Iterator[dict[str, float]]:
    """Yield the outcomes of scripts/train.py, each run a command with a warm-up of its own."""
    from train import main  # the script

    module = images_module(bench, 1)
    source = ["--data", f"{type(module).__module__}.{type(module).__name__}", "--data.device", bench.device]
    if bench.data is None:
        source += ["--data.count", str(module.hparams["count"])]
    else:
        source += ["--data.data_dir", module.data_dir, "--data.cache_dir", str(module.hparams["cache_dir"])]
    small = ["--data.batch_size", str(QUICK_BATCH), "--model.compile", "false", "--optimizer.ns_dtype", "float32"]
    small += ["--model.backbone.class_path", "FastNet", "--model.backbone.widths", str(list(NARROW))]
    words = ["fit", "--config", str(RECIPE), *source, "--warm_up", "3", "--trainer.precision", precision]
    words += ["--trainer.accelerator", "gpu" if bench.cuda else "cpu", *(small if bench.quick else [])]
    for seed in range(1, runs(bench) + 1):
        torch.compiler.reset()
        with quiet() as folder:
            done = main([*words, "--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)])
            results = json.loads((done.run.folder / "results.json").read_text())
        names = {"accuracy_tta": "test/accuracy_tta", "accuracy": "test/accuracy", "seconds": "train_seconds"}
        yield {name: results[key] for name, key in names.items()}


def package(bench: Bench) -> Iterator[dict[str, float]]:
    """Yield what PyPI's airbench (airbench94, not compiled) prints of its runs on these images, by its clock."""
    script: Any = importlib.import_module("record_by_hand")
    try:
        importlib.metadata.version("airbench")  # before its import, which reads the images from the working directory
    except importlib.metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError("airbench", name="airbench") from error
    module = images_module(bench, BATCH, crop_padding=0, flip="none")
    module.setup()
    images = script.read(module)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cifar10").mkdir()
        scale = [torch.tensor(one, device=bench.device).view(3, 1, 1) for one in (module.std, module.mean)]
        for part, values, labels in (
            ("train", images.train, images.train_labels),
            ("test", images.test, images.test_labels),
        ):
            pixels = ((values * scale[0] + scale[1]) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
            content = {"images": pixels.cpu(), "labels": labels.cpu(), "classes": module.classes}
            torch.save(content, Path(folder) / "cifar10" / f"{part}.pt")
        os.chdir(folder)
        try:
            airbench: Any = importlib.import_module("airbench")
            for run in range(-1, runs(bench)):  # the first is its warm-up
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    airbench.train94(run=run, verbose=True)
                if run >= 0:
                    yield last_row(printed.getvalue())
        finally:
            os.chdir(before)


def last_row(printed: str) -> dict[str, float]:
    """Return the outcome in airbench's table: the last three cells of its last row."""
    line = [one for one in printed.splitlines() if "|" in one][-1]
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    return dict(zip(("accuracy", "accuracy_tta", "seconds"), map(float, cells[-3:]), strict=True))


def runs(bench: Bench) -> int:
    """Return the number of counted runs."""
    return 1 if bench.quick else RUNS


def run(bench: Bench) -> None:
    """Measure each, a row after every run, so that what was measured stays."""
    torch.backends.cudnn.benchmark = bench.cuda
    case = f"CIFAR-10's record, {'images of a folder' if bench.data else 'random images'}"
    base: float | None = None
    half = "bf16-mixed" if bench.cuda else "32-true"
    programs: dict[str, Callable[[Bench], Iterator[dict[str, float]]]] = {
        "plain script": by_hand,
        "train.py, cifar10_fast.yaml": partial(ours, precision=half),
        "airbench 0.1.8 (airbench94)": package,
    }
    for name, program in programs.items():
        function = partial(counted, bench, case, name, program, base)
        row = bench.measure(case, name, function, needs=0 if bench.quick else 30, cuda_only=program is package)
        if row is not None and base is None:
            base = row["train_seconds"]["median"]


def counted(
    bench: Bench,
    case: str,
    name: str,
    program: Callable[[Bench], Iterator[dict[str, float]]],
    base: float | None,
) -> Row:
    """Return the summary of a program's runs, which is written after each run too."""
    done: list[dict[str, float]] = []
    for outcome in program(bench):
        done.append(outcome)
        bench.row(case, name, **summary(done, base))
        if bench.left() < 10:
            break
    return summary(done, base)
