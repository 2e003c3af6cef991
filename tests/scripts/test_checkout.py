"""The commands run from a checkout that is not installed, from any working directory."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
NETWORK = """
from torch import nn


class MyNet(nn.Sequential):
    def __init__(self, num_classes: int, image_shape: tuple, activation: object = None) -> None:
        super().__init__(nn.Flatten(), nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], num_classes))
"""
SHORT = ["--model.backbone", "my_net.MyNet", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository's packages and scripts."""
    copy = tmp_path_factory.mktemp("checkout")
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    for name in (*packages, "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's own folder, with a network in it."""
    (tmp_path / "my_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(script: Path, *words: str) -> subprocess.CompletedProcess:
    """Run a script with only third-party packages installed: without site, no editable install is active."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": sysconfig.get_path("purelib"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", str(script), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_starts(checkout, folder, command):
    done = call(checkout / "scripts" / command, "--help")
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"python scripts/{command}" in done.stdout


@pytest.mark.slow
def test_a_network_of_the_working_directory_is_trained_in_two_processes(checkout, folder):
    ddp = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = call(checkout / "scripts" / "train.py", *SHORT, *ddp)
    assert done.returncode == 0, done.stderr[-2000:]
    (config,) = folder.glob("runs/*/config.yaml")
    assert "my_net.MyNet" in config.read_text()


@pytest.mark.slow
def test_a_comparison_of_networks_of_the_working_directory(checkout, folder):
    values = ["--axis", "model.backbone", "--values", "my_net.MyNet", "TwoLayerNet", "--seeds", "1"]
    done = call(checkout / "scripts" / "compare.py", *values, *SHORT[2:], "--output", "out")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert (folder / "out" / "report.html").is_file()
