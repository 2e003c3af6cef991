"""scripts/compare.py with real runs: its output, which kills, jobs and Ray do not change."""

import csv
import json
import multiprocessing
import multiprocessing.forkserver
import os
import re
import signal
import statistics
import sys
import time
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch.utils.tensorboard import SummaryWriter

import compare
from _compare import progress as comparison_progress
from _compare.curves import elapsed
from workers.tensorboard_server import tensorboard_server

NAMES = ["Adam", "SGD(lr=0.1)", "COCOB"]
COMMAND = [
    *("--axis", "optimizer", "--values", *NAMES, "--seeds", "2", "--model.backbone", "TwoLayerNet"),
    *("--data.batch_size", "256", "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "2"),
    *("--trainer.accelerator", "cpu", "--save_every", "2", "--figures_every", "9"),
]
PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def server():
    """Start the process server with the module path of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        PROCESSES.set_forkserver_preload(["compare"])
        multiprocessing.forkserver.ensure_running()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted comparison, one run after the other."""
    folder = tmp_path_factory.mktemp("whole")
    results = compare.main([*COMMAND, "--output", str(folder)])
    assert results | {"files": 0} == read(folder) | {"files": 0}
    return folder


def read(folder: Path):
    return json.loads((folder / "results.json").read_text())


def test_the_table_agrees_with_the_runs(whole):
    results = read(whole)
    assert results["metric"] == "test/accuracy"
    assert list(results["table"]) == NAMES
    accuracies = {}
    for place in sorted(whole.glob("*/seed-*/*/results.json")):
        accuracies.setdefault(place.parts[-4], []).append(json.loads(place.read_text())["test/accuracy"])
    assert sorted(accuracies) == ["Adam", "COCOB", "SGD-lr=0.1"]
    for name in NAMES:
        values = accuracies[name.replace("(", "-").replace(")", "")]
        row = results["table"][name]
        low, high = stats.t.interval(0.95, 1, statistics.fmean(values), stats.sem(values))
        low, high = max(low, 0), min(high, 1)
        known = {"n": 2, "mean": statistics.fmean(values), "sd": statistics.stdev(values), "low": low, "high": high}
        assert {key: row[key] for key in known} == pytest.approx(known)
        if name != "Adam":
            p = stats.ttest_rel(values, accuracies["Adam"]).pvalue
            assert results["tests"][name]["p"] == pytest.approx(p)
            assert p <= results["tests"][name]["holm"] <= 2 * p + 1e-12
            assert results["tests"][name]["conclusion"] == "too few seeds"
    assert "too few seeds to conclude anything" in results["note"]
    assert max(accuracies["Adam"]) > 0.2
    assert len({value for values in accuracies.values() for value in values}) > 3  # seeds and optimizers differ


def test_only_times_json_depends_on_the_time(whole):
    text = (whole / "results.json").read_text()
    assert "second" not in text
    assert str(whole) not in text
    times = json.loads((whole / "times.json").read_text())
    assert len(times["runs"]) == 6
    for run in times["runs"]:
        assert run["seconds"] > 0
        assert run["train/examples_per_second"] > 10
        assert (whole / run["folder"] / "checkpoints" / "last.ckpt").is_file()
    assert times["command"].startswith("python scripts/compare.py --axis optimizer --values Adam 'SGD(lr=0.1)' COCOB")
    assert times["environment"]["torch"] == torch.__version__
    assert times["environment"]["threads a run"] == 1
    assert times["environment"]["device"] == "cpu"


def test_curves_are_means_over_the_seeds(whole):
    from _compare.curves import collect

    runs = [path.parent for path in sorted(whole.glob("Adam/*/*/metrics.csv"))]
    curves = collect({"Adam": runs}, "test/ece")
    assert list(curves) == ["ece", "accuracy", "loss"]
    assert list(curves["accuracy"]) == ["train", "val", "test"]
    curve = curves["accuracy"]["test"]["Adam"]
    assert curve.steps == [5, 10, 15]
    for place in range(3):
        values = []
        for run in runs:
            rows = list(csv.DictReader((run / "metrics.csv").open()))
            values.append([float(row["test/accuracy"]) for row in rows if row["test/accuracy"]][place])
        assert curve.mean[place] == pytest.approx(statistics.fmean(values))
        assert curve.sd[place] == pytest.approx(statistics.stdev(values))
    assert 0 < curve.seconds[0] < curve.seconds[1] < curve.seconds[2]
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_shows_the_settings_that_vary_and_the_final_metrics(whole):
    final = ["results/test/accuracy", "results/test/nll", "results/test/ece"]
    with tensorboard_server(whole, tags=("loss/train", "results/test/ece")) as get:
        end = time.monotonic() + 120
        experiment, rows = hparams(get, final)
        while [len(row["metricValues"]) for row in rows] != 6 * [3] and time.monotonic() < end:
            time.sleep(0.5)  # the server reads one run after the other
            experiment, rows = hparams(get, final)
    first = [info["name"] for info in experiment["hparamInfos"] if info["differs"]]
    assert first == ["learning_rate", "optimizer", "seed"] == [info["name"] for info in experiment["hparamInfos"]][:3]
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == final
    shown = {
        (row["hparams"]["optimizer"], int(row["hparams"]["seed"])): next(
            value["value"] for value in row["metricValues"] if value["name"]["tag"] == "results/test/accuracy"
        )
        for row in rows
    }
    runs = read(whole)["runs"]
    assert shown == pytest.approx(
        {(run["name"].partition("(")[0], run["seed"]): run["metrics"]["test/accuracy"] for run in runs}
    )


def hparams(get, metrics):
    """Return the experiment and the rows of the HParams tab."""
    experiment = post(get, "experiment", {"experimentName": ""})
    columns = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    columns += [{"metric": {"tag": tag, "group": ""}} for tag in metrics]
    states = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    query = {"allowedStatuses": states, "colParams": columns, "startIndex": 0, "sliceSize": 100}
    return experiment, post(get, "session_groups", {"experimentName": ""} | query)["sessionGroups"]


def post(get, name, query):
    import inspect
    import urllib.request

    address = inspect.getclosurevars(get).nonlocals["address"]
    request = urllib.request.Request(
        f"{address}/data/plugin/hparams/{name}", json.dumps(query).encode(), {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.loads(answer.read())


def _stopped(arguments: list[str], ended: int, by: signal.Signals, log: Path) -> None:
    """Run a comparison that gets a signal as soon as `ended` of its runs have ended."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes of a shell ignore it
    left = ended

    def stop(tasks, metric):
        nonlocal left
        left -= len(tasks)
        if left == 0:
            os.kill(os.getpid(), by)

    comparison_progress.check_metric = stop
    compare.main(arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("ended", "by", "code"), [(1, signal.SIGKILL, -signal.SIGKILL), (4, signal.SIGINT, 130)])
def test_a_stopped_comparison_resumes_and_ends_like_an_uninterrupted_one(tmp_path, whole, ended, by, code, capfd):
    output = tmp_path / "comparison"
    arguments = [*COMMAND, "--output", str(output), "--jobs", "2"]
    process = PROCESSES.Process(target=_stopped, args=(arguments, ended, by, tmp_path / "log"))
    process.start()
    process.join(600)
    assert process.exitcode == code
    assert ("interrupted; the same command" in (tmp_path / "log").read_text()) == (by is signal.SIGINT)
    assert not (output / "results.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("*/*/outcome.json")}
    assert ended <= len(finished) < 6
    started = {path.parents[2] for path in output.glob("*/*/*/checkpoints/last.ckpt")}
    compare.main(arguments)
    # A run may have finished before it noticed that the comparison had been killed.
    (already,) = re.findall(r"(\d) of 6 runs are finished already", capfd.readouterr().out)
    assert len(finished) <= int(already) < 6
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # they were not repeated
    assert read(output) == read(whole)
    for seed in started:  # an unfinished run resumed in its own folder
        assert len(list(seed.glob("*/"))) == 1


@pytest.mark.slow
def test_a_failing_run_is_reported_and_the_others_continue(tmp_path, capsys):
    values = ["SGD(lr=0.1)", "SGD(lr=1e30)"]
    arguments = [
        "--axis",
        "optimizer",
        "--values",
        *values,
        "--seeds",
        "1",
        *COMMAND[COMMAND.index("--model.backbone") :],
    ]
    with pytest.raises(SystemExit) as stop:
        compare.main([*arguments, "--output", str(tmp_path)])
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert "error: 1 of 2 runs failed; the first: SGD(lr=1e30), seed 0: the training loss is" in printed.err
    results = read(tmp_path)
    assert [run["status"] for run in results["runs"]] == ["finished", "failed"]
    assert "the training loss is" in results["runs"][1]["error"]
    assert str(tmp_path) not in results["runs"][1]["error"]
    assert results["table"]["SGD(lr=0.1)"]["mean"] == results["runs"][0]["metrics"]["test/accuracy"]
    assert results["table"]["SGD(lr=1e30)"]["n"] == 0
    assert "no interval and no test" in results["note"]
    assert "the training loss is" in (tmp_path / "report.html").read_text()
    before = (tmp_path / "SGD-lr=0.1" / "seed-0" / "outcome.json").stat().st_mtime_ns
    with pytest.raises(SystemExit):  # the same command again: only failed runs are repeated
        compare.main([*arguments, "--output", str(tmp_path)])
    assert read(tmp_path) == results
    assert (tmp_path / "SGD-lr=0.1" / "seed-0" / "outcome.json").stat().st_mtime_ns == before


def refused(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)
    assert stop.value.code == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_another_command_in_the_same_folder_is_refused(whole, tmp_path, capsys):
    before = (whole / "results.json").read_bytes()
    line = refused(capsys, [*COMMAND, "--model.l2", "0.1", "--output", str(whole)])
    assert line.startswith(f"error: --output {whole} holds another comparison")
    assert "python scripts/compare.py --axis optimizer" in line
    fewer = list(COMMAND)
    fewer[fewer.index("--seeds") + 1] = "1"
    assert "holds another" in refused(capsys, [*fewer, "--output", str(whole)])
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds other files" in refused(capsys, [*COMMAND, "--output", str(tmp_path)])
    assert (whole / "results.json").read_bytes() == before


@pytest.mark.slow
def test_metric_and_baseline_may_change(whole, capsys):
    line = refused(capsys, [*COMMAND, "--metric", "test/f1", "--output", str(whole)])
    assert "--metric test/f1: a run has none of that name, only test/accuracy, test/ece, test/nll" in line
    results = compare.main([*COMMAND, "--metric", "test/nll", "--baseline", "COCOB", "--output", str(whole)])
    assert set(results["tests"]) == {"Adam", "SGD(lr=0.1)"}
    runs = {(run["name"], run["seed"]): run["metrics"]["test/nll"] for run in results["runs"]}
    assert results["table"]["COCOB"]["mean"] == pytest.approx((runs["COCOB", 0] + runs["COCOB", 1]) / 2)
    assert "6 of 6 runs are finished already" in capsys.readouterr().out
    compare.main([*COMMAND, "--output", str(whole)])


def test_without_output_the_unfinished_comparison_continues(tmp_path, monkeypatch):
    from _compare.folder import find_folder

    monkeypatch.chdir(tmp_path)
    first = find_folder(None, {"threads": 1}, [0, 1], "command")
    assert first.parent == Path("runs")
    assert find_folder(None, {"threads": 1}, [0, 1], "command") == first
    assert find_folder(None, {"threads": 2}, [0, 1], "command") != first
    (first / "results.json").write_text("{}")
    assert find_folder(None, {"threads": 1}, [0, 1], "command") != first


def test_seconds_exclude_the_pause_between_a_kill_and_a_resume(tmp_path, monkeypatch):
    def write(began, points, purge_step=None):
        monkeypatch.setattr("time.time", lambda: began)
        with SummaryWriter(tmp_path, purge_step=purge_step) as writer:
            for step, wall in points:
                writer.add_scalar("train/loss", 1.0, step, walltime=wall)

    write(100.0, [(4, 103.0), (9, 106.0), (14, 109.0)])
    write(1000.0, [(9, 1004.0), (14, 1008.0)], purge_step=7)  # resumed from step 7's checkpoint
    write(1010.0, [])
    monkeypatch.setattr("time.time", lambda: 2000.0)
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("final/test/accuracy", 0.5, 0, walltime=2000.0)
        writer.add_scalar("results/test/accuracy", 0.5, 15, walltime=2000.0)
    assert elapsed(tmp_path) == {4: 3.0, 9: 7.0, 14: 11.0}


@pytest.mark.slow
def test_ray_gives_the_same_numbers(tmp_path, whole):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        fewer = list(COMMAND)
        del fewer[fewer.index("COCOB")], fewer[fewer.index("Adam")]
        fewer[fewer.index("--seeds") + 1] = "1"
        compare.main([*fewer, "--output", str(tmp_path), "--engine", "ray"])
    finally:
        ray.shutdown()
    known = next(run for run in read(whole)["runs"] if (run["name"], run["seed"]) == ("SGD(lr=0.1)", 0))
    assert read(tmp_path)["runs"] == [known]
    assert json.loads((tmp_path / "times.json").read_text())["environment"]["engine"] == "ray"
