"""The blocks of docs/adding/ work as they are printed, in a copy of the repository."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "adding").glob("*.md"))}
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with every block of the pages: their first code, in the file and with the line named."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("activations", "datamodules", "evaluation", "lightning_modules", "optim", "scripts"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for text in PAGES.values():
        code = CODE.search(text)[1]
        file = re.search(r"The file is `([\w/]+\.py)`", text)
        if file is None:  # a metric is added to a file
            with (root / "lightning_modules" / "metrics.py").open("a") as metrics:
                metrics.write(f"\n\n{code}")
            continue
        (root / file[1]).write_text(code, encoding="utf-8")
        line = re.search(r"The line in `([\w/]+\.py)` is\s+`([^`]+)`", text)
        if line is not None:
            with (root / line[1]).open("a") as package:
                package.write(line[2] + "\n")
    return root


def run(root: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_training_takes_all_blocks(copy):
    words = ["--optimizer", "Signum", "--model.activation", "Squareplus", "--model.activation.b", "1"]
    words += ["--data", "BarsDataModule", "--model.backbone", "OneConv", "--monitor_metric", "val/brier"]
    words += [
        "--trainer.max_epochs",
        "1",
        "--trainer.limit_train_batches",
        "2",
        "--trainer.enable_progress_bar",
        "false",
    ]
    assert "test/brier" in run(copy, "scripts/train.py", *words)


@pytest.mark.slow
def test_an_experiment_runs(copy):
    assert re.search(r"mean distance: \d+\.\d", run(copy, "scripts/spread.py", "--n", "100"))


@pytest.mark.slow
def test_the_examples_of_the_docstrings_are_right(copy):
    files = [re.search(r"The file is `([\w/]+\.py)`", text) for text in PAGES.values()]
    packages = [file[1] for file in files if file is not None and not file[1].startswith("scripts/")]
    assert len(packages) == 4
    words = ["--doctest-modules", "--import-mode=importlib", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    assert "4 passed" in run(copy, "-m", "pytest", *words, *packages)


@pytest.mark.parametrize("name", PAGES)
def test_the_code_has_types_and_a_docstring(name):
    tree = ast.parse(CODE.search(PAGES[name])[1])
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions
    assert [node.name for node in functions if node.returns is None] == []
