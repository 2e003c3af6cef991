"""Fixtures shared by the tests of the scripts."""

import shutil

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def blank_figures(request, monkeypatch):
    """Leave TensorBoard's figures blank, which take most of a short run's time; tests/evaluation has their tests."""
    if request.node.get_closest_marker("figures") is None:
        for name in ("mistakes_monitor", "calibration_monitor"):
            monkeypatch.setattr(f"evaluation.callbacks.{name}.to_rgb", lambda figure: np.zeros((8, 8, 3), np.uint8))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
