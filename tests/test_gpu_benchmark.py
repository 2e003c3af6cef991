"""`benchmarks/gpu.py`: each part with tiny sizes on a CPU, and what happens to a part that fails or hangs."""

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])


def module(name):
    return importlib.import_module(f"_gpu.{name}")


def measured(part, tmp_path, **options):
    rows = module("rows")
    bench = rows.Bench(tmp_path / "rows.jsonl", "cpu", quick=True, **options)
    bench.rows.touch()
    module(f"parts.{part}").run(bench)
    return {row["name"]: row for row in rows.read(bench.rows.read_text().splitlines(keepends=True))}


@pytest.mark.slow
def test_a_step_by_hand_by_train_and_by_the_usual_idiom(tmp_path):
    rows = measured("step", tmp_path)
    assert {name for name, row in rows.items() if "error" in row or "trace_error" in row} == set()
    for name in ("by hand, eager", "train.py, SGD", "usual idiom, DataLoader"):
        assert rows[name]["ms"]["median"] > 0
        assert rows[name]["rate"] == pytest.approx(8e3 / rows[name]["ms"]["median"])
    assert rows["by hand, captured"] == {
        "case": "TwoLayerNet, batch 8, float32",
        "name": "by hand, captured",
        "skipped": "needs CUDA",
    }
    assert rows["train.py, SGD"]["items"] == 0
    assert rows["usual idiom, DataLoader"]["items"] > 0


def test_optimizers_are_ratios_to_fused_adam_and_name_the_missing_peers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "parameterfree", None)
    rows = measured("optimizers", tmp_path)
    assert {name for name, row in rows.items() if "error" in row or "trace_error" in row} == set()
    assert rows["Adam(fused)"]["wall_ratio"]["median"] > 0
    assert {"LAMB()", "COCOB()", "SAM's own work", "EMA (WeightAverage)", "timm Lamb"} <= set(rows)
    assert "not installed" in rows["parameterfree COCOB"]["skipped"]


@pytest.mark.slow
def test_compiled_steps(tmp_path, monkeypatch):
    # A compiler takes a minute.
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    rows = measured("compiled", tmp_path)
    assert [(row["items"], row["ms"]["median"] > 0) for row in rows.values()] == [(0, True), (0, True)]


def test_batches_beside_the_bandwidth_of_a_copy(tmp_path):
    rows = measured("input", tmp_path)
    assert {name for name, row in rows.items() if "error" in row or "trace_error" in row} == set()
    assert rows["copy of 0.25 MiB"]["gigabytes_per_second"] > 0
    assert rows["matrix product of side 64, TF32"]["teraflops"] > 0
    for name in ("torch's operations: float32", "ours: float32", "ours: bfloat16, channels_last"):
        assert rows[name]["wall_ratio"]["median"] > 0
    assert rows["ours: the first batch of an epoch, with its plan"]["items"] == 0
    assert torch.get_float32_matmul_precision() == "highest"


def test_activations_are_ratios_to_relu(tmp_path):
    rows = measured("activations", tmp_path)
    assert [name for name, row in rows.items() if "device_ratio" in row] == ["nn.ReLU", "nn.GELU"]
    assert rows["ReLU"]["skipped"] == "needs CUDA"


def test_a_pass_of_kmeans_beside_its_matrix_products(tmp_path):
    rows = measured("kmeans", tmp_path)
    assert rows["matrix products alone, float32"]["ms"]["median"] > 0
    assert rows["ours"]["ms"]["count"] == 1
    assert rows["ours"]["wrong_ppm"] == 0
    assert rows["ours, whole fit"]["seconds"] > 0
    assert rows["ours, whole fit"]["excess_ppm"] < 1  # ours after ten passes from some of the rows, or less
    assert rows["adjusted Rand index"]["ms"]["median"] > 0
    assert rows["flash-kmeans"]["skipped"] == "needs CUDA"


@pytest.mark.slow
def test_the_record_by_hand_and_by_train(tmp_path):
    rows = measured("record", tmp_path)
    assert {name for name, row in rows.items() if "error" in row} == set()
    for name in ("plain script", "train.py, cifar10_fast.yaml"):
        assert rows[name]["train_seconds"]["median"] > 0
        assert 0 <= rows[name]["accuracy_tta"] <= 100
    table = "-----\n|  0  | 9 | 0.9300 |     | 3.1 |\n|     | eval | 0.9310 | 0.9400 | 3.8 |\n-----\n"
    assert module("parts.record").last_row(table) == {"accuracy": 0.931, "accuracy_tta": 0.94, "seconds": 3.8}


def test_the_experiments_are_commands_of_compare_whose_ended_runs_count(tmp_path):
    import compare

    experiments, bench = module("parts.experiments"), module("rows").Bench(tmp_path / "rows", "cpu")
    for axis, values in (
        ("optimizer", experiments.OPTIMIZERS),
        ("optimizer", experiments.COCOB),
        ("model.activation", experiments.ACTIVATIONS),
    ):
        words = experiments.words(bench, axis, values, tmp_path)
        divided = compare.divide(compare.split(words[2:])[1])
        grid = compare.make_grid(divided.axes, compare.join(divided.theirs))
        assert len(grid) == len(values)
        assert ("--lr_scheduler" in grid[0].words) == (values != experiments.COCOB)
    for seed, outcome in enumerate(({"status": "finished", "metrics": {"test/accuracy": 0.5}},
                                    {"status": "finished", "metrics": {"test/accuracy": 0.7}},
                                    {"status": "failed", "error": "no"})):  # fmt: skip
        path = tmp_path / "Adam" / f"seed-{seed}" / "outcome.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(outcome))
    (row,) = experiments.outcomes(tmp_path).values()
    assert (row["accuracy"], row["runs"], row["error"]) == (pytest.approx(60), 2, "no")


ENDED = {
    "record": [
        {"case": "images", "name": "plain script", "train_seconds": {"median": 2.5, "low": 2.25, "high": 3.0},
         "runs": 5, "accuracy_tta": 94.0, "accuracy": 93.1, "deviation": 0.12},
        {"case": "images", "name": "airbench", "skipped": "not installed: airbench"},
    ],
    "experiments": [
        {"case": "linear decay", "name": "Adam-lr=0.004", "accuracy": 91.0, "runs": 3, "deviation": 0.2},
        {"case": "linear decay", "name": "LAMB-lr=0.02", "error": "out of memory"},
        {"case": "linear decay", "name": "all runs", "seconds": 71.0},
    ],
}  # fmt: skip
ENVIRONMENT = {"device": "Card 1", "python": "3.12", "versions": {"torch": "2.11"}, "date": "2026-01-02 03:04 UTC"}


def tables():
    spec = importlib.util.spec_from_file_location("results_tables", BENCHMARKS.parent / "results" / "tables.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def page(root, name, *parts):
    """Return a page whose tables `results/tables.py` has made from a results file of a folder."""
    (root / "docs").mkdir(exist_ok=True)
    marked = "".join(f"<!-- results: {name} {part} -->\n<!-- end of results -->\n" for part in parts)
    (root / "README.md").write_text(marked)
    program = tables()
    assert program.main([], root) == 0
    assert program.main(["--check"], root) == 0
    return (root / "README.md").read_text()


def test_tables_of_whole_trainings(tmp_path):
    results = module("driver").Results(tmp_path / "results", argparse.Namespace(commit="abc", only=list(ENDED)))
    results.output.mkdir()
    results.take("environment", {"rows": [{"case": "environment", "name": "environment", **ENVIRONMENT}]})
    for part, rows in ENDED.items():
        results.take(part, {"rows": rows})
    written = page(tmp_path, "cifar10-card-1", *ENDED)
    assert "| plain script | 2.500 (2.250 to 3.000) |" in written
    assert "airbench" not in written
    assert "| Adam-lr=0.004 | 91.00 |" in written
    assert "| LAMB-lr=0.02 (failed: out of memory) |  |" in written


@pytest.mark.slow
def test_whole_trainings_from_a_folder_of_images_to_a_page(tmp_path):
    pixels = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 8)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(image).save(folder / f"{number}.png")
    words = ["--device", "cpu", "--quick", "--only", "record", "experiments", "--minutes", "60", "--cap", "1700"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CIFAR")}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), *words, "--data", str(tmp_path / "images"), "--output",
         str(tmp_path / "results")], capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "results" / "cifar10-cpu.json").read_text())["parts"]
    for part in ("record", "experiments"):
        assert parts[part]["ended"] == "finished", done.stdout
        assert [row for row in parts[part]["rows"] if "error" in row] == []
    assert parts["environment"]["rows"][2]["count"] == 40
    assert [row["name"] for row in parts["experiments"]["rows"] if "accuracy" in row] == [
        "SGD-lr=0.4-momentum=0.9-nesterov=true-weight_decay=0.0005", "COCOB", "ReLU",
    ]  # fmt: skip
    written = page(tmp_path, "cifar10-cpu", "record", "experiments")
    assert "train.py, cifar10_fast.yaml" in written


def test_whole_trainings_have_a_file_of_their_own(tmp_path):
    results = module("driver").Results(tmp_path, argparse.Namespace(commit="abc", only=["record"]))
    results.take("environment", {"rows": [{"case": "environment", "name": "environment", "device": "Card 1"}]})
    results.take("record", {"rows": [{"case": "a", "name": "b", "runs": 1}]})
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10-card-1.json"]
    content = json.loads(results.path.read_text())
    assert set(content["parts"]) == {"environment", "record"}


@pytest.mark.slow
def test_the_command_runs_the_marked_tests_and_names_them(tmp_path):
    words = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--quick", "--only", "tests"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CIFAR")}
    done = subprocess.run(
        [*words, "--output", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert {"versions", "commit", "device", "missing"} <= set(content["parts"]["tests"]["environment"])
    assert content["parts"]["tests"]["ended"] == "finished"
    every, *tests = content["parts"]["tests"]["rows"]
    assert sum(every["counts"].values()) == len(tests) > 10
    assert every["failed"] == []
    assert all(row["name"].startswith("tests/activations/test_gpu.py::test_") for row in tests)
    assert "pytest -m gpu" in done.stdout


def test_marks_of_a_folders_fixtures_are_found():
    chosen = {path.name for path in module("parts.tests").files(BENCHMARKS.parent / "tests")}
    assert {"test_gpu.py", "test_assignment.py", "test_kernels.py"} <= chosen
    assert not {"test_chunks.py", "test_train.py"} & chosen


WITHOUT = ("faiss", "plotly", "eli5", "flash_kmeans", "timm", "parameterfree", "pytorch_optimizer", "torch_optimizer")


@pytest.mark.slow
def test_every_part_is_imported_without_optional_packages_and_installation(tmp_path):
    program = f"""
        import runpy, sys
        sys.modules |= dict.fromkeys({WITHOUT}, None)
        sys.argv = [{str(BENCHMARKS / "gpu.py")!r}, "--help"]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit:
            pass
        import importlib
        from pathlib import Path
        from _gpu import driver, rows
        for part in (".environment", *(f".parts.{{name}}" for name in driver.CAPS)):
            importlib.import_module(part, "_gpu")
        bench = rows.Bench(Path({str(tmp_path / "rows")!r}), "cpu", quick=True)
        bench.rows.touch()
        importlib.import_module("_gpu.parts.kmeans").run(bench)
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CIFAR")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    rows = module("rows").read((tmp_path / "rows").read_text().splitlines(keepends=True))
    assert "ours" in [row["name"] for row in rows]
    assert [row for row in rows if "error" in row] == []


def test_a_row_that_fails_holds_its_error_and_one_without_time_says_so(tmp_path):
    rows, timing = module("rows"), module("timing")
    bench = rows.Bench(tmp_path / "rows.jsonl", "cpu")
    times = iter([4.0, 2.0] * 6)  # the base's and its own in turn

    def sample():
        return timing.Sample(next(times), 1.0, 3.0)

    def breaks():
        raise RuntimeError("out of\nmemory")

    bench.measure("case", "good", lambda: timing.against(sample, sample, 3, 60))
    bench.measure("case", "bad", breaks)
    bench.measure("case", "late", breaks, needs=1000)
    bench.measure("case", "peer", lambda: importlib.import_module("no_such_peer"))
    good, bad, late, peer = rows.read(bench.rows.read_text().splitlines(keepends=True))
    assert good["wall"] == {"median": 2.0, "low": 2.0, "high": 2.0, "count": 3}
    assert (good["wall_ratio"]["median"], good["device_ratio"]["median"]) == (0.5, 1.0)
    assert bad["error"] == "RuntimeError: out of memory"
    assert late["skipped"] == "no time left"
    assert peer["skipped"] == "not installed: no_such_peer"


def test_counts_of_a_trace():
    launch = {"cat": "cuda_runtime", "name": "cudaLaunchKernel"}
    events = [
        *({**launch, "args": {"correlation": number}} for number in (1, 2, 2)),  # reported by two interfaces
        {"cat": "cuda_driver", "name": "cuLaunchKernelEx", "args": {"correlation": 3}},
        {"cat": "cuda_runtime", "name": "cudaGraphLaunch", "args": {"correlation": 4}},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize"},
        {"cat": "cuda_runtime", "name": "cudaDeviceSynchronize"},  # the profile's own
        {"cat": "kernel", "name": "gemm", "dur": 30},
        {"cat": "gpu_memset", "name": "Memset (Device)", "dur": 1},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "dur": 4},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pageable)", "dur": 5},
        {"cat": "gpu_user_annotation", "name": "Optimizer.step#SGD.step", "dur": 1000},  # spans kernels
        {"cat": "cpu_op", "name": "aten::_local_scalar_dense"},
        {"ph": "M", "name": "process_name"},
    ]
    counts = module("trace").count(events, 2, "cuda")
    assert counts == {
        "items": 0.5, "launches": 2.0, "kernels": 0.5, "waits": 0.5, "to_host": 0.5, "from_host": 0.5, "busy_ms": 0.02,
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="saw no kernel"):
        module("trace").count([], 1, "cuda")


def test_item_calls_are_counted_also_after_a_step_that_failed():
    def breaks():
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("no")

    trace, calls = module("trace"), []
    with pytest.raises(ValueError, match="no"):
        trace.traced(breaks, "cpu", 4)
    assert trace.traced(lambda: torch.ones(3).sum().item(), "cpu", 4) == {"items": 1.0}


@pytest.mark.slow
def test_a_part_that_hangs_is_killed_with_its_children_and_its_rows_stay(tmp_path):
    rows, processes = module("rows"), module("processes")
    program = f"""
        import subprocess, sys, time
        open({str(tmp_path / "rows")!r}, "w").write('{{"case": "a", "name": "b", "x": 1}}\\n{{"case": ')
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    began, polls = time.monotonic(), []
    words = [sys.executable, "-c", textwrap.dedent(program)]
    ended = processes.run_capped(words, 3, tmp_path / "log", lambda: polls.append(1))
    assert ended == "killed after 3 s"
    assert time.monotonic() - began < 10
    assert rows.read((tmp_path / "rows").read_text().splitlines(keepends=True)) == [{"case": "a", "name": "b", "x": 1}]
    status = Path("/proc", (tmp_path / "log").read_text().strip(), "stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() - began < 15
        time.sleep(0.05)
    assert processes.run_capped([sys.executable, "-c", "raise SystemExit(3)"], 30, tmp_path / "log", int) == (
        "exit code 3"
    )


def test_a_new_run_of_one_part_keeps_the_others(tmp_path):
    driver = module("driver")
    for part, value in (("step", 1), ("kmeans", 2), ("step", 3)):
        results = driver.Results(tmp_path, argparse.Namespace(commit="abc"))
        results.take("environment", {"rows": [{"case": "environment", "name": "environment", "device": "Card 1"}]})
        results.take(part, {"rows": [{"case": "a", "name": "b", "ms": value}]})
    content = json.loads((tmp_path / "gpu-card-1.json").read_text())
    assert [content["parts"][part]["rows"][0]["ms"] for part in ("step", "kmeans")] == [3, 2]
    assert content["parts"]["step"]["environment"] == {"device": "Card 1", "commit": "abc"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="no CUDA device was found: measure a CPU with --device cpu"):
        module("environment").run(module("rows").Bench(tmp_path / "rows", "cuda"))


def test_of_a_machine_without_a_card_no_result_is_left(tmp_path, monkeypatch, capsys):
    driver = module("driver")
    monkeypatch.setattr(driver.signal, "signal", lambda *_: None)
    monkeypatch.setattr(driver, "run_capped", lambda words, cap, log, poll: log.write_text("no CUDA") and "exit code 1")
    assert driver.main(["--only", "record", "--output", str(tmp_path), "--commit", "abc"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert "no CUDA" in capsys.readouterr().out
