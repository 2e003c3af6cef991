"""Every data module that the package exports, built on the small data set of its own test file."""

import importlib.util
import inspect
from pathlib import Path

import pytest

import datamodules

EXPORTED = {name: member for name, member in vars(datamodules).items() if inspect.isclass(member)}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


def small(cls):
    """Return the function `small(folder, monkeypatch)` of a data module's test file.

    It writes a small data set into the folder (at least two classes and 60 training examples or so) and returns the
    options that read it.
    """
    source = cls.__module__.rpartition(".")[2]
    spec = importlib.util.spec_from_file_location(f"small_{source}", Path(__file__).with_name(f"test_{source}.py"))
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    return tests.small


@pytest.fixture(params=EXPORTED.values(), ids=EXPORTED)
def build(request, tmp_path, monkeypatch):
    """Return a function that builds a data module on small data; tests that use it run for every data module."""
    cls = request.param
    options = small(cls)(tmp_path, monkeypatch)
    return lambda **others: cls(**{**options, **others})
