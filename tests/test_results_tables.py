"""`results/tables.py` writes the pages' tables from the results, and finds pages that differ."""

import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "results" / "tables.py"


@pytest.fixture
def tables(monkeypatch):
    spec = importlib.util.spec_from_file_location("results_tables", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    environment = {"device": "Card", "python": "3.12", "versions": {"torch": "2.11"}, "date": "2026-01-02 03:04 UTC"}
    row = {"case": "resnet20", "name": "by hand", "ms": {"median": 4.5, "low": 4.25, "high": 4.75}, "launches": 200.0}
    rows = [row, {"case": "resnet20", "name": "a peer", "skipped": "not installed"}]
    content = {"parts": {"step": {"environment": environment | {"commit": "abc"}, "rows": rows}}}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "gpu-card.json").write_text(json.dumps(content))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "plain.md").write_text("No tables.\n")
    (tmp_path / "README.md").write_text(
        "Before.\n\n<!-- results: gpu-card step -->\nold\n<!-- end of results -->\n\nAfter.\n"
    )
    return tmp_path


def test_a_page_is_written_once_and_then_equal(tables, root, capsys):
    assert tables.main(["--check"], root) == 1
    assert "README.md differs from the results" in capsys.readouterr().err
    assert tables.main([], root) == 0
    assert (root / "README.md").read_text() == (
        "Before.\n\n<!-- results: gpu-card step -->\n"
        "`python benchmarks/gpu.py --only step` on Card, torch 2.11, Python 3.12, 2026-01-02, commit abc:\n\n"
        "| resnet20 | ms a step (quartiles) | launches |\n| --- | ---: | ---: |\n"
        "| by hand | 4.50 (4.25 to 4.75) | 200.0 |\n"
        "<!-- end of results -->\n\nAfter.\n"
    )
    assert tables.main(["--check"], root) == 0


@pytest.mark.parametrize(
    ("marker", "message"), [("gpu-none step", "is missing: run benchmarks/gpu.py"), ("gpu-card tests", "no part tests")]
)
def test_a_marker_without_results_is_an_error(tables, root, capsys, marker, message):
    (root / "README.md").write_text(f"<!-- results: {marker} -->\n<!-- end of results -->\n")
    assert tables.main(["--check"], root) == 1
    assert message in capsys.readouterr().err


def test_this_repository_agrees_with_its_results(tables):
    assert tables.main(["--check"]) == 0
