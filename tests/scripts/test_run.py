"""Folders of runs: one for each run, one process in each, and which run is the last."""

import json
import math
import os
import subprocess
import sys
import time

import pytest

from _common import run as runs
from _common.lock import only_one
from _common.run import Run, check_name, find_last, new_run
from _common.trust import checked_config
from _compare.runs import OUTCOME, outcome
from lightning_modules.runs import checkpoint_io, reading

HOLD = """
import sys
from pathlib import Path
from _common.lock import only_one
with only_one(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_runs_of_the_same_second_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-000000")
    folders = [new_run(tmp_path / "runs") for _ in range(12)]
    assert len(set(folders)) == 12
    assert all(folder.is_dir() for folder in folders)


def test_named_runs_of_the_same_second(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-000000")
    made = [new_run(tmp_path, name).name for name in ("wide net", "wide net", None, "wide net")]
    assert made == [f"20260101-000000{end}" for end in ("-wide net", "-wide net-1", "", "-wide net-2")]


@pytest.mark.parametrize("name", ["a", "lr=1e-3, SAM (2)", "síť č. 3", "网络", "-x", "x.y", "k" * 80, "e" + "́" * 79])
def test_a_name_of_a_run(name, tmp_path):
    check_name(name)
    assert new_run(tmp_path, name).is_dir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "must not be empty"), ("  ", "must not be empty"), ("a/b", "must be a name and not a path, found 'a/b'"),
        ("..", "must not begin with a dot"), (".hidden", "must not begin with a dot"), ("/tmp", "not a path"),
        ("a\\b", "not a path"), ("a\nb", r"invisible characters, found 'a\\nb'"), ("a\x1b[31m", "invisible"),
        ("a\0", "invisible"), ("\u202egnp", "invisible"), ("\udcff", "invisible"), (" a", "begin or end with a space"),
        ("a ", "begin or end with a space"), ("k" * 81, "at most 80 characters, found 81"),
        ("网" * 80, "at most 200 bytes in UTF-8, found 240"),
    ],
)  # fmt: skip
def test_what_is_no_name_of_a_run(name, reason):
    with pytest.raises(ValueError, match=f"^--name .*{reason}") as error:
        check_name(name)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()


def test_one_process_in_a_folder(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], env=environment, **pipes)
    try:
        assert holder.stdout.readline() == "held\n"
        told = rf"last\.ckpt: the run is being trained.*found process {holder.pid} on"
        with pytest.raises(ValueError, match=told), Run(tmp_path).only_trainer():
            pass
        holder.kill()  # nothing is left locked
        holder.wait()
        with Run(tmp_path).only_trainer():
            assert (tmp_path / ".lock").exists()
        assert list(tmp_path.iterdir()) == []
    finally:
        holder.kill()


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(tmp_path):
    with only_one(tmp_path / "absent", "busy"):
        pass


def make(folder, text=None):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    if text is not None:
        Run(folder).save_config(text)
    return folder


def test_renamed_and_moved_runs_keep_their_age(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(reading, "read_checkpoint", read.append)
    monkeypatch.setattr(checkpoint_io, "read_checkpoint", read.append)
    first, second = make(tmp_path / "20260101-000000", "a: 1\n"), make(tmp_path / "20260101-000001", "a: 2\n")
    assert find_last(tmp_path) == second / "checkpoints" / "last.ckpt"
    first.rename(tmp_path / "zzz")
    (tmp_path / "zzz" / "checkpoints" / "last.ckpt").write_bytes(b"a longer training")
    second.rename(tmp_path / "19990101-000000")
    for number in range(1, 500):  # of which none needs to be opened
        make(tmp_path / f"19990101-{number // 60:04d}{number % 60:02d}")
    assert find_last(tmp_path) == tmp_path / "19990101-000000" / "checkpoints" / "last.ckpt"
    assert len(read) == 2
    named = make(new_run(tmp_path, "2026 again"), "a: 3\n")
    assert find_last(tmp_path) == named / "checkpoints" / "last.ckpt"
    assert (tmp_path / "zzz" / "config.yaml").read_text().splitlines()[2:] == ["a: 1"]
    assert runs.started(tmp_path / "zzz") < runs.started(tmp_path / "19990101-000000")


def test_a_flipped_byte_in_a_configuration_is_found(tmp_path):
    folder = make(tmp_path / "mine", "lr: 3e-4\n")
    path = folder / "config.yaml"
    written = path.read_text()
    assert checked_config(folder) == {"lr": 3e-4}
    path.write_text(written.replace("3e-4", "3e-5"))
    with pytest.raises(ValueError, match=r"config\.yaml was edited or is damaged .*delete its second line"):
        checked_config(folder)
    first, _, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, *rest]))
    assert checked_config(folder) == {"lr": 3e-5}


def test_without_a_time_in_it_the_name_or_the_folder_tells_the_age(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "read_checkpoint", lambda path: None)
    monkeypatch.setattr(checkpoint_io, "read_checkpoint", lambda path: None)
    make(tmp_path / "mine")
    assert find_last(tmp_path).parents[1].name == "mine"
    make(tmp_path / "99990101-000000")
    make(tmp_path / "99990101-000000-1")
    assert find_last(tmp_path).parents[1].name == "99990101-000000-1"


def test_results_are_strict_json(tmp_path):
    results = {
        "nll": math.nan,
        "parts": [1.5, math.inf, {"low": -math.inf}],
        "pair": (0.5, math.nan),
        "name": "NaN",
    }
    runs.write_json(tmp_path / "results.json", results)

    def refuse(name):
        raise ValueError(name)

    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert read == {"nll": None, "parts": [1.5, None, {"low": None}], "pair": [0.5, None], "name": "NaN"}


def test_a_comparison_reads_null_as_not_a_number(tmp_path):
    runs.write_json(tmp_path / OUTCOME, {"status": "finished", "metrics": {"test/nll": math.nan, "test/accuracy": 0.1}})
    metrics = outcome(tmp_path)["metrics"]
    assert math.isnan(metrics["test/nll"])
    assert metrics["test/accuracy"] == 0.1


def test_half_written_files_of_a_killed_process_are_removed(tmp_path, capsys):
    last = make(tmp_path / "mine") / "checkpoints" / "last.ckpt"
    half, open_ = (last.with_name(f".last.ckpt.{number}.partial") for number in (4194304, os.getpid()))
    half.write_bytes(b"PK")
    open_.write_bytes(b"PK")
    Run(tmp_path / "mine").remove_half_written()
    assert [path.exists() for path in (last, half, open_)] == [True, False, True]
    assert capsys.readouterr().err == f"warning: {half} was half written by a process that was killed: removed\n"
