"""Names and paths out of the user's data: in the terminal, in pages, and in folders of texts."""

from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from _common.cli import Option, split
from _common.console import plain, print_rows, say
from _common.errors import fail, warn
from _common.page import html_table, page
from _compare.charts import colours, score_chart, to_html
from _explain import corpora
from _explain.global_explanations import weights
from _explain.html import explanation_html
from _explain.local_explanations import contributions
from lightning_modules.callbacks.prediction_csv import PredictionCSV

NASTY = ["weight [kg]", "a [/]", "[red]b", ":cat:", "[link=x]c", "x\x1b[2J\r\x07y", "猫 قط", "\udcff", "a\u202eb"]
SHOWN = [*NASTY[:5], r"x\x1b[2J\r\x07y", "猫 قط", r"\udcff", r"a\u202eb"]


def test_the_terminal_shows_them_unchanged(capsys):
    for name in NASTY:
        print_rows(name, {f"{name} 1": {f"{name} 2": f"{name} 3"}}, f"{name} 4")
        say(f"{name} 5")
        warn(f"{name} 6")
        with pytest.raises(SystemExit):
            fail(ValueError(f"{name} 7"))
    captured = capsys.readouterr()
    for name in SHOWN:
        assert all(f"{name}{part}" in captured.out for part in ("", " 1", " 2", " 3", " 4", " 5"))
        assert f"warning: {name} 6\n" in captured.err
        assert f"error: {name} 7\n".replace(r"\r", r"\r") in captured.err or name.startswith("x")
    assert "\x1b" not in captured.out + captured.err
    assert plain("two\nlines") == "two\nlines"


def test_home_in_the_value_of_an_option(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert split(["fit", "--a=~/x", "--b", "~/y", "~z"])[1] == [
        Option("a", ("/home/me/x",)),
        Option("b", ("/home/me/y", "~z")),
    ]


SCRIPT = "<script>alert(1)</script>\" onload='x' <!--"


@pytest.mark.parametrize("model", [DecisionTreeClassifier(max_depth=2), LogisticRegression()])
def test_nothing_in_a_name_runs_in_a_page(model):
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = (X[:, 0] > 0).astype(int)
    names, classes = [SCRIPT, "y"], [f"{SCRIPT} 0", "b"]
    fitted = model.fit(X, y)
    whole = explanation_html(weights(fitted, names, X, y, classes, 0).explanation)
    single = contributions(fitted, X[0], names).explanation(SCRIPT, classes[0], dict(zip(names, X[0], strict=True)))
    for html in (whole, explanation_html(single, values=True), html_table([{SCRIPT: SCRIPT}]), page(SCRIPT)):
        assert SCRIPT in unescape(html)
        assert "<script" not in html
        assert "onload='" not in html
    assert "BIAS" in explanation_html(single)


def test_nothing_in_a_name_runs_in_the_report_of_a_comparison():
    run = {"name": SCRIPT, "status": "finished", "seed": 0, "metrics": {"m": 0.5}}
    row = {"mean": 0.5, "high": None, "low": None}
    results = {"table": {SCRIPT: row}, "runs": [run], "metric": "m"}
    html = to_html(score_chart(results, colours([SCRIPT])), "scores")
    assert "<script>alert" not in html
    assert "&lt;script" in html.replace("\\u0026", "&")  # plotly's own texts are a kind of HTML


def test_hidden_and_other_files_of_a_corpus(tmp_path, capsys):
    for name in ("b", "a"):
        for place in (".hidden", "more/.deep", "more"):
            (tmp_path / name / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / place / "x.txt").write_text(f"text of {name}")
        (tmp_path / name / ".DS_Store").write_bytes(b"\0\0")
        (tmp_path / name / "picture.png").write_bytes(b"\x89PNG\0\0")
        (tmp_path / name / "mark.txt").write_bytes("\ufeffmarked".encode("utf-16" if name == "a" else "utf-8"))
        (tmp_path / name / "loop").symlink_to(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "loose.txt").write_text("")
    classes, texts, labels = corpora._read(tmp_path)
    assert (classes, labels) == (["a", "b"], [0, 0, 1, 1])
    assert [text.removeprefix("\ufeff") for text in texts] == ["marked", "text of a", "marked", "text of b"]
    out = capsys.readouterr().out
    assert "used 4 texts of 2 classes, left out 12: 2 a link to a folder that is read already (loop), 7 hidden (" in out
    assert "1 in no class folder (loose.txt), 2 not a text (picture.png)" in out


def test_names_that_are_not_utf_8_are_written(tmp_path):
    assert r"\udcff" in page("\udcff")
    table = PredictionCSV(tmp_path / "predictions.csv", ["a\udcff", "b"])
    trainer = SimpleNamespace(world_size=1)
    table.on_predict_start(trainer, None)
    table.on_predict_end(trainer, None)
    assert b"probability_a\xff,probability_b" in table.path.read_bytes()


def test_only_names_that_begin_a_formula_are_changed_in_predictions():
    names = ["=1+1", "@sum", "-1", "+1", 'a "b", c', "'x", "d"]
    table = PredictionCSV("predictions.csv", names)
    assert table.classes == ["'=1+1", "'@sum", *names[2:]]
    assert table.header[3:] == [f"probability_{name}" for name in names]
