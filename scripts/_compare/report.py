"""The report of a comparison: one self-contained web page."""

import statistics
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import yaml

from _common.console import cell
from _common.page import Cell, html_table, page
from _compare.charts import curve_chart, score_chart, to_html
from _compare.curves import Curve
from _compare.statistics import LEVEL
from _compare.target import heading, target_rows
from _compare.tuning_report import tuning_section

ASSETS = Path(__file__).parent
HOW = (
    "difference: to the baseline, mean over the seeds, 95% interval by Student's t of the pairs. Over test examples: "
    "the difference in accuracy, with its 95% bootstrap interval for other examples and the same runs. p: paired "
    "t-test over the seeds, then with Holm's correction. McNemar's p: exact, a test for each seed; their median. An "
    "ensemble averages the class probabilities of a combination's seeds."
)


def report(
    results: Mapping[str, Any],
    times: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]],
    colours: Mapping[str, str],
    tuning: Mapping[str, Any] | None = None,
) -> str:
    """Return the page.

    It is made of results.json, times.json, each combination's flat configuration, curves and colour, and tuning.json.
    """
    sections = [
        _lead(results),
        _summary(results, times, colours),
        to_html(score_chart(results, colours), "scores", with_library=True),
        *(_target(made, colours) for made in times["targets"]),
        tuning_section(tuning, colours),
        _curves(curves, colours),
        _runs(results, times, colours),
        _settings(configs),
        _environment(times),
        f"<script>{(ASSETS / 'report.js').read_text()}</script>",
    ]
    head = f"<style>{(ASSETS / 'report.css').read_text()}</style>\n"
    return page(f"Comparison: {' × '.join(results['axes'])}", *sections, head=head)


def _lead(results: Mapping[str, Any]) -> str:
    finished = sum(run["status"] == "finished" for run in results["runs"])
    seeds = len(results["seeds"])
    few = " few" if "too few" in results["note"] or "no test" in results["note"] else ""
    return (
        f'<p class="lead">{len(results["table"])} combinations, {seeds} seed{"s" * (seeds > 1)} each: {finished} of '
        f"{len(results['runs'])} runs finished. Metric: <b>{escape(results['metric'])}</b>; baseline: "
        f'<b>{escape(results["baseline"])}</b>.</p>\n<p class="note{few}">{escape(results["note"])}</p>'
    )


def _summary(results: Mapping[str, Any], times: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    rows: list[dict[str, Any]] = []
    for name, row in results["table"].items():
        seconds = [run["seconds"] for run in times["runs"] if run["name"] == name and run["seconds"]]
        mean = {"seconds": f"{sum(seconds) / len(seconds):,.1f}" if seconds else None}
        first = {"combination": _name(name, colours)}
        rows.append(first | summary_row(results, name) | row["others"] | mean | _size(results, name))
        verdict = rows[-1]["conclusion"]
        kind = verdict if verdict in ("higher", "lower") else "muted"
        rows[-1]["conclusion"] = Cell(f'<td class="{kind}">{verdict}</td>')
    ensembles = [{"combination": name} | row for name, row in ensemble_rows(results).items()]
    rows += [{key: row.get(key, "") for key in rows[0]} for row in ensembles]
    return f'<h2>Results</h2>{html_table(rows, "results", "sortable")}<p class="muted">{HOW}</p>'


def _size(results: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the parameters and the operations of a forward pass of one example, the same for every seed."""
    measured: Mapping[str, float] = next(
        (run["metrics"] for run in results["runs"] if run["name"] == name and "metrics" in run), {}
    )
    return {
        heading: f"{measured[key]:,.0f}" if key in measured else ""
        for key, heading in {"parameters": "parameters", "flops": "FLOPs"}.items()
    }


def summary_row(results: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return a combination's row of the table of results, effects first, on the page as in the terminal."""
    row, test = results["table"][name], results["tests"].get(name, {})
    examples = results["examples"].get(name) or {}
    return {
        "runs": f"{row['n']} of {len(results['seeds'])}",
        "mean ± sd": " ± ".join(cell(row[key]) for key in ("mean", "sd") if row[key] is not None),
        "95% interval": _interval(row),
        "difference": _effect(test),
        "accuracy's, over test examples": _effect(examples),
        "conclusion": "baseline" if name == results["baseline"] else test.get("conclusion", ""),
        "p": cell(test.get("p")),
        "p, Holm": cell(test.get("holm")),
        "McNemar's p": _mcnemar(examples),
    }


def ensemble_rows(results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return a row for the ensemble of each combination's seeds: the mean of their class probabilities."""
    rows = {}
    for name, found in results["ensembles"].items():
        if found is not None:
            metrics = {f"test/{key}": cell(value) for key, value in found.items()}
            first = {"runs": "ensemble", "mean ± sd": metrics.get(results["metric"], "")}
            rows[f"{name}, ensemble of {results['table'][name]['n']}"] = first | metrics
    return rows


def _interval(row: Mapping[str, Any]) -> str:
    return " to ".join(cell(row[key]) for key in ("low", "high") if row.get(key) is not None)


def _effect(test: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    if test.get("difference") is None:
        return ""
    interval = " to ".join(cell(test[key], "+") for key in ("low", "high") if test[key] is not None)
    return cell(test["difference"], "+") + (f" ({interval})" if interval else "")


def _mcnemar(examples: Mapping[str, Any]) -> str:
    """The median over the seeds, and for how many of them it is below 5%."""
    values = [test["p"] for test in examples.get("mcnemar", {}).values()]
    if not values:
        return ""
    return f"{cell(statistics.median(values))} ({sum(p < LEVEL for p in values)} of {len(values)} below 5%)"


def _target(made: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    rows = [row | {"combination": _name(row["combination"], colours)} for row in target_rows(made)]
    return f"<h2>{escape(heading(made))}</h2>" + html_table(rows, f"target-{made['value']:g}", "sortable")


def _runs(results: Mapping[str, Any], times: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    rows = []
    for run, time in zip(results["runs"], times["runs"], strict=True):
        failed = run["status"] != "finished"
        metrics = {key: run.get("metrics", {}).get(key) for key in (results["metric"], *results["others"])}
        row = {"combination": _name(run["name"], colours), "seed": run["seed"], "status": run["status"]}
        row |= {"status": Cell(f'<td class="failed">{escape(run["error"])}</td>')} if failed else {}
        row |= metrics | {"seconds": None if time["seconds"] is None else f"{time['seconds']:,.1f}"}
        folder = escape(time["folder"] or "")
        rows.append(row | {"folder": Cell(f'<td><a href="{folder}/">{folder}</a></td>') if folder else ""})
    return "<h2>Runs</h2>" + html_table(rows, "runs", "sortable")


def _name(name: str, colours: Mapping[str, str]) -> Cell:
    return Cell(f'<td><span class="swatch" style="background: {colours[name]}"></span>{escape(name)}</td>')


def _curves(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], colours: Mapping[str, str]) -> str:
    if not curves:
        return "<h2>Learning curves</h2><p>No run has logged curves.</p>"
    panels: list[str] = []
    for quantity, splits in curves.items():
        steps, seconds = (
            to_html(curve_chart(quantity, splits, axis, colours), f"{quantity}-{axis}") for axis in ("steps", "seconds")
        )
        panels.append(
            f'<div class="quantity" data-quantity="{escape(quantity)}"{" hidden" if panels else ""}>'
            f"<h3>per optimizer step</h3>{steps}<h3>per second</h3>{seconds}</div>"
        )
    choices = "".join(f"<option>{escape(quantity)}</option>" for quantity in curves)
    return (
        f'<h2>Learning curves</h2>\n<div class="controls"><label>Show <select id="quantity">{choices}</select></label>'
        '<span class="muted">Lines: mean over the seeds. Bands: one standard deviation. Drag to zoom, double-click to '
        f"zoom out, click a name to hide it.</span></div>\n{''.join(panels)}"
    )


def _settings(configs: Mapping[str, Mapping[str, Any]]) -> str:
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = [
        {"setting": key} | {name: str(config.get(key, "")) for name, config in configs.items()}
        for key in keys
        if len({str(config.get(key)) for config in configs.values()}) > 1
    ]
    details = "".join(
        f"<details><summary>all settings of {escape(name)}</summary>"
        f"<pre>{escape(yaml.safe_dump(dict(config), sort_keys=False))}</pre></details>"
        for name, config in configs.items()
    )
    differing = html_table(rows, "settings", "sortable") if rows else "<p>All settings are the same.</p>"
    return f"<h2>Settings that differ</h2>{differing}<h2>Configuration</h2>{details}"


def _environment(times: Mapping[str, Any]) -> str:
    rows = [{"item": key, "value": str(value)} for key, value in times["environment"].items()]
    command = f'<h2>Command</h2><pre id="command">{escape(times["command"])}</pre>'
    return f"<h2>Environment</h2>{html_table(rows, 'environment')}{command}"
