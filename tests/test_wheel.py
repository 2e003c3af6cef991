"""The wheel holds every module of the packages, and each can be imported from an installation of it alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/py.typed"))
IMPORT_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.argv[1]), f"{name} comes from {module.__file__}"
"""


def modules(folder: Path) -> list[str]:
    paths = [path.relative_to(folder) for package in PACKAGES for path in (folder / package).rglob("*.py")]
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths)


@pytest.mark.slow
def test_every_module_is_imported_from_the_wheel(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "installed"
    # Building leaves build/ and *.egg-info behind, so it works on a copy.
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], check=True)
    assert modules(installed) == modules(ROOT)
    assert all((installed / package / "py.typed").is_file() for package in PACKAGES)
    command = [sys.executable, "-P", "-c", IMPORT_ALL, str(installed), *modules(installed)]
    subprocess.run(command, check=True, cwd=tmp_path)
