"""`results/tables.py` writes the pages' tables from the results, and finds pages that differ."""

import importlib
import importlib.util
import json
from pathlib import Path

import pytest
from rich.table import Table

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


def test_a_study_becomes_tables(tables, root):
    environment = {
        "device": "cpu", "processor": "A chip", "threads a run": 1, "torch": "2.15", "date": "2026-01-02 03:04 UTC",
        "commit": "abc",
    }  # fmt: skip
    lr = "optimizer.lr"
    tuned = {"mean": 0.9, "low": 0.875, "high": 0.925, "n": 2, "others": {"train/top_eigenvalue": 3.14159}}
    alone = {"mean": 0.5, "low": None, "high": None, "n": 1, "others": {"train/top_eigenvalue": None}}
    record = {
        "study": "mnist", "command": "python scripts/compare.py", "environment": environment, "seeds": [0, 1],
        "metric": "test/accuracy", "others": ["train/top_eigenvalue"], "baseline": "SGD, tuned",
        "table": {"SGD, tuned": tuned, "COCOB": alone},
        "tests": {"COCOB": {"difference": -0.4, "low": -0.5, "high": -0.3, "holm": 0.0004}},
        "ensembles": {"SGD, tuned": {"accuracy": 0.95}, "COCOB": None},
        "targets": [
            {
                "metric": "val/accuracy", "mode": "max", "value": 0.9,
                "table": {"COCOB": {
                    "reached": 1, "runs": 2, "steps": {"median": 1200.0, "low": 900.0, "high": None},
                    "epochs": {"median": 3.0, "low": 3.0, "high": 3.0},
                    "evaluations": {"median": None, "low": None, "high": None},
                }},
            }
        ],
        "runs": [{"name": "COCOB", "seconds": 2.0}, {"name": "COCOB", "seconds": 3.0}],
        "tuning": {
            "trials": 3, "metric": "val/accuracy", "mode": "max", "spaces": {"SGD": {lr: "1e-3..1 log"}, "COCOB": {}},
            "defaults": {"SGD": {lr: 0.001}, "COCOB": {}},
            "chosen": {"SGD": {"values": {lr: "0.9"}, "edges": {lr: "high"}}},
            "runs": [{"name": "SGD", "value": value} for value in (0.25, 0.75, None, 0.5)],
        },
    }  # fmt: skip
    (root / "results" / "mnist.json").write_text(json.dumps(record))
    end = "<!-- end of results -->\n"
    (root / "README.md").write_text(
        f"<!-- results: mnist table -->\n{end}<!-- results: mnist tuning -->\n{end}"
        f"<!-- results: mnist targets -->\n{end}"
    )
    assert tables.main([], root) == 0
    head = (
        "`python scripts/compare.py`: 3 trials each, chosen by val/accuracy; 2 seeds; cpu (A chip), 1 thread a run, "
        "torch 2.15, 2026-01-02, commit abc:\n\n"
    )
    assert (root / "README.md").read_text() == (
        f"<!-- results: mnist table -->\n{head}"
        "|  | test/accuracy, mean and 95% interval | difference (95% interval) | p (Holm) | seconds a run "
        "| top eigenvalue |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| SGD, tuned | 0.9000 (0.8750 to 0.9250) | baseline |  |  | 3.14 |\n"
        "| COCOB | 0.5000 | -0.4000 (-0.5000 to -0.3000) | < 0.001 | 2.5 |  |\n"
        f"| SGD, tuned, ensemble of 2 | 0.9500 |  |  |  |  |\n{end}"
        f"<!-- results: mnist tuning -->\n{head}"
        "|  | space | without tuning | chosen | val/accuracy: best, median, worst | runs |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| SGD | lr 1e-3..1 log | 0.001 | 0.9 (near the high end) | 0.7500, 0.5000, 0.2500 | 3 |\n"
        f"| COCOB | none: it tunes itself |  |  |  | 0 |\n{end}"
        f"<!-- results: mnist targets -->\n{head}"
        "|  | reached | steps | epochs | evaluations of the loss |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        f"| val/accuracy ≥ 0.9: COCOB | 1 of 2 | 1,200 (900 to ∞) | 3 | ∞ |\n{end}"
    )
    assert tables.main(["--check"], root) == 0
    (root / "README.md").write_text(f"<!-- results: mnist curves -->\n{end}")
    assert tables.main(["--check"], root) == 1


def test_a_benchmark_becomes_tables(tables, root):
    module = importlib.import_module("benchmarks._record")
    first, second = Table("method", "ratio", title="One"), Table("a|b", "x")
    first.add_row("ours", "1.00")
    first.add_row("a peer", "2.50")
    second.add_row("c", "3")
    module.write_record(root / "results" / "bench.json", [first, second], ["3 seeds"])
    end = "<!-- end of results -->\n"
    (root / "README.md").write_text(f"<!-- results: bench 1 -->\n{end}<!-- results: bench all -->\n{end}")
    assert tables.main([], root) == 0
    page = (root / "README.md").read_text()
    one = "One:\n\n| method | ratio |\n| --- | ---: |\n| ours | 1.00 |\n| a peer | 2.50 |\n"
    assert f":\n\n{one}{end}" in page
    assert page.endswith(f"{one}\n| a\\|b | x |\n| --- | ---: |\n| c | 3 |\n\n- 3 seeds\n{end}")
    (root / "README.md").write_text(f"<!-- results: bench 3 -->\n{end}")
    assert tables.main(["--check"], root) == 1
    module.write_record(None, [first])  # nothing is asked for


def test_the_headline_is_of_several_files(tables, root):
    def write(name, content):
        (root / "results" / f"{name}.json").write_text(json.dumps(content))

    table = {"SGD, tuned": {"mean": 0.95}, "SGD": {"mean": 0.99}, "COCOB": {"mean": 0.96}}
    write("mnist_two_layer", {"table": table, "seeds": [0, 1]})
    write("mnist_activations", {"table": {"ReLU, tuned": {"mean": 0.9}}, "seeds": [0]})
    steps = [["hand-written loop", "1.00"], ["scripts/train.py, all its defaults", "1.31 (1.1 to 1.8)"]]
    write("trainer_overhead", {"tables": [{"rows": [*steps, ["usual idiom: self.log", "6.07 (5 to 9)"]]}]})
    write("kmeans", {"tables": [{"rows": [["faiss.Kmeans", "9.9", "10.6"], ["scikit-learn", "20", "23.6"]]}]})
    rows = [{"case": "resnet50's", "name": name, "wall_ratio": {"median": value}}
            for name, value in {"LAMB()": 0.84, "pytorch-optimizer Lamb": 4.3}.items()]  # fmt: skip
    write("gpu-nvidia-h200", {"parts": {"optimizers": {"rows": rows}}})
    marker, end = "<!-- results: headline rows -->\n", "<!-- end of results -->\n"
    (root / "README.md").write_text(marker + end)
    assert tables.main([], root) == 0
    page = (root / "README.md").read_text()
    assert "test accuracy, %: COCOB 96.0, SGD 95.0 (2 seeds)" in page  # the best first; SGD without tuning is left out
    assert "1.31 x a hand-written loop's time (the usual Lightning idiom: 6.07 x)" in page
    assert "faiss.Kmeans takes 10.6 x our time, scikit-learn 23.6 x" in page
    assert "0.84 x Adam(fused)'s time (the fastest other LAMB measured: 4.3 x)" in page
    write("kmeans", {"tables": [{"rows": [["faiss.Kmeans", "9.9", "10.6"]]}]})
    assert tables.main(["--check"], root) == 1  # a row is missing
    (root / "results" / "kmeans.json").unlink()
    assert tables.main(["--check"], root) == 1
