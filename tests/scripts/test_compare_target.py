"""Time to a target: parsing, the first row that reaches it, medians with infinities."""

import math
import statistics

import pytest

from _compare.report import _target
from _compare.target import COSTS, Target, add_targets, cost, median, parse, summarize, target_rows

ROWS = """step,seconds,evaluations,train/loss_window,epoch,val/accuracy,val/nll
4,0.5,10.0,2.0,,,
9,1.5,20.0,,0.0,0.9,0.5
9,1.6,20.0,,0.0,,
19,3.25,40.0,,1.0,0.97,0.25
29,5.0,60.0,,2.0,0.95,0.125
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text(ROWS)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [("val/accuracy 0.97", Target("val/accuracy", 0.97, "max")), (" val/nll  1e-1 ", Target("val/nll", 0.1, "min"))],
)
def test_the_direction_follows_from_the_metric(text, expected):
    assert parse(text) == [expected]


def test_several_values_of_a_metric():
    assert [target.value for target in parse("val/nll 0.5 0.2")] == [0.5, 0.2]


@pytest.mark.parametrize(
    "text", ["", "val/accuracy", "0.97 val/accuracy", "val/accuracy 0.97 high", "val/accuracy high", "val/nll nan",
             "val/nll inf", "val/f1 0.9", "accuracy 0.9", "steps 3"],
)  # fmt: skip
def test_a_mistake_is_one_line(text):
    with pytest.raises(ValueError, match="--target ") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val/accuracy 0.9", (10, 1, 1.5, 20)),
        ("val/accuracy 0.95", (20, 2, 3.25, 40)),
        ("val/accuracy 0.97", (20, 2, 3.25, 40)),
        ("val/nll 0.2", (30, 3, 5.0, 60)),
        ("val/nll 0.5", (10, 1, 1.5, 20)),
        ("val/accuracy 0.98", 4 * (math.inf,)),
        ("test/accuracy 0.1", 4 * (math.inf,)),
    ],
)
def test_the_first_row_that_reaches_it(run, text, expected):
    assert cost(run, parse(text)[0]) == dict(zip(COSTS, expected, strict=True))


def test_a_run_that_failed_never_reaches_it(tmp_path):
    (target,) = parse("val/accuracy 0.5")
    assert cost(None, target) == cost(tmp_path, target) == dict.fromkeys(COSTS, math.inf)


def test_medians_with_infinities_are_never_nan():
    for values in ([1.0], [2.0, math.inf], [math.inf] * 3, [5.0, 1.0, 3.0, math.inf, math.inf]):
        found = median(values)
        assert found["low"] <= found["median"] <= found["high"]
        assert found["median"] == statistics.median_high(values)
        assert {found["low"], found["high"]} <= set(values)
    assert median([1.0, 2.0, math.inf, math.inf])["median"] == math.inf


def test_a_combination_counts_every_run(run):
    made = summarize({"A": [run, run, None], "B": [None, None]}, parse("val/accuracy 0.97")[0])
    assert (made["metric"], made["value"], made["mode"]) == ("val/accuracy", 0.97, "max")
    assert (made["table"]["A"]["reached"], made["table"]["A"]["runs"], made["table"]["B"]["reached"]) == (2, 3, 0)
    assert made["table"]["A"]["evaluations"] == {"median": 40.0, "low": 40.0, "high": math.inf}
    rows = target_rows(made)
    assert rows[0] == {
        "combination": "A", "reached": "2 of 3", "steps": "20 (20 to ∞)", "epochs": "2 (2 to ∞)",
        "seconds": "3.2 (3.2 to ∞)", "evaluations": "40 (40 to ∞)",
    }  # fmt: skip
    assert rows[1]["steps"] == "∞"


def test_results_and_times_get_the_table_and_the_report_shows_it(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text(ROWS)
    results: dict = {}
    times: dict = {"runs": [{"name": "A <b>", "folder": "run"}, {"name": "B", "folder": None}]}
    add_targets([], tmp_path, results, times)
    assert results["targets"] == times["targets"] == []
    add_targets(parse("val/nll 0.25 0.1"), tmp_path, results, times)
    first, second = times["targets"]
    assert first["table"]["A <b>"]["seconds"]["median"] == 3.25
    assert second["table"]["A <b>"]["reached"] == 0
    assert "seconds" not in results["targets"][0]["table"]["B"]
    page = _target(first, {"A <b>": "#000", "B": "#fff"})
    assert "Time to val/nll at most 0.25" in page
    assert "A &lt;b&gt;" in page
    assert "∞" in page
