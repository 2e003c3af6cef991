"""The report of a comparison: one page for the browser, with everything in it."""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml
from plotly.offline import get_plotlyjs

from _common.page import page
from _compare.charts import curve_charts, score_chart
from _compare.curves import Curve

HERE = Path(__file__).parent


def report(
    results: Mapping[str, Any],
    times: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]],
    colours: Mapping[str, str],
) -> str:
    """Write the page.

    Args:
        results: What results.json holds.
        times: What times.json holds.
        configs: Combination -> flat configuration.
        curves: Quantity -> split -> combination -> curve.
        colours: Of the combinations.
    """
    figures = {"scores": score_chart(results, colours), "curves": curve_charts(curves, colours)}
    content = json.dumps(_finite(figures)).replace("</", "<\\/")
    head = f"<style>{(HERE / 'report.css').read_text()}</style>\n<script>{get_plotlyjs()}</script>\n"
    scripts = (
        f'<script type="application/json" id="figures">{content}</script>\n'
        f"<script>{(HERE / 'report.js').read_text()}</script>"
    )
    sections = [
        _lead(results),
        _summary(results, times, colours),
        '<div id="scores" class="plot"></div>',
        _curves(curves),
        "<h2>Each run</h2>" + _runs(results, times, colours),
        _settings(configs),
        _environment(times),
        scripts,
    ]
    return page(f"Comparison: {' × '.join(results['axes'])}", *sections, head=head)


def _lead(results: Mapping[str, Any]) -> str:
    finished = sum(run["status"] == "finished" for run in results["runs"])
    seeds = len(results["seeds"])
    few = " few" if "too few" in results["note"] or "no test" in results["note"] else ""
    return (
        f'<p class="lead">{len(results["table"])} combinations, {seeds} seed{"s" * (seeds > 1)} each: {finished} of '
        f"{len(results['runs'])} runs finished. Compared: <b>{escape(results['metric'])}</b>, against "
        f'<b>{escape(results["baseline"])}</b>.</p>\n<p class="note{few}">{escape(results["note"])}</p>'
    )


def _summary(results: Mapping[str, Any], times: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    extra = [name for name in results["others"] if any(row["others"].get(name) for row in results["table"].values())]
    headings = ["combination", "runs", "mean ± sd", "95% interval", "difference", "p", "p, Holm"]
    headings += ["conclusion", *extra, "seconds"]
    rows = []
    for name, row in results["table"].items():
        test = results["tests"].get(name)
        is_baseline = name == results["baseline"]
        verdict = "baseline" if is_baseline else test["conclusion"] if test else ""
        cells = [
            _name(name, colours),
            _td(f"{row['n']} of {len(results['seeds'])}", row["n"], "" if row["n"] else "failed"),
            _spread(row),
            _interval(row),
            _number(test and test["difference"], "+"),
            _number(test and test["p"]),
            _number(test and test["holm"]),
            _td(verdict, kind=verdict if verdict in ("higher", "lower") else "muted"),
            *(_number(row["others"].get(key)) for key in extra),
            _number(_mean([run["seconds"] for run in times["runs"] if run["name"] == name and run["seconds"]]), "s"),
        ]
        rows.append(cells)
    return "<h2>Results</h2>" + _table("results", headings, rows)


def _runs(results: Mapping[str, Any], times: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    rows = []
    for run, time in zip(results["runs"], times["runs"], strict=True):
        metrics = run.get("metrics", {})
        failed = run["status"] != "finished"
        rows.append(
            [
                _name(run["name"], colours),
                _td(str(run["seed"]), run["seed"], "number"),
                _td(run["error"] if failed else run["status"], kind="failed" if failed else ""),
                *(_number(metrics.get(key)) for key in (results["metric"], *results["others"])),
                _number(time["seconds"], "s"),
                f'<td><a href="{escape(time["folder"])}/">{escape(time["folder"])}</a></td>'
                if time["folder"]
                else _td(""),
            ]
        )
    headings = ["combination", "seed", "status", results["metric"], *results["others"], "seconds", "folder"]
    return _table("runs", headings, rows)


def _curves(curves: Mapping[str, Any]) -> str:
    if not curves:
        return "<h2>Learning curves</h2><p>The runs have written none.</p>"
    choices = "".join(f"<option>{escape(name)}</option>" for name in curves)
    return (
        '<h2>Learning curves</h2>\n<div class="controls"><label>Show <select id="quantity">'
        f'{choices}</select></label><span class="muted">Lines: mean over the seeds. Bands: one standard deviation. '
        "Drag to zoom, double-click to go back, click a name to hide it.</span></div>\n"
        '<h3>per optimizer step</h3><div id="curves-steps" class="plot"></div>\n'
        '<h3>per second</h3><div id="curves-seconds" class="plot"></div>'
    )


def _settings(configs: Mapping[str, Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    differ = [key for key in keys if len({str(config.get(key)) for config in configs.values()}) > 1]
    rows = [
        [_td(key), *(_td(str(config[key]) if key in config else "", kind="number") for config in configs.values())]
        for key in differ
    ]
    table = _table("settings", ["setting", *configs], rows) if rows else "<p>None differs.</p>"
    whole = "".join(
        f"<details><summary>all settings of {escape(name)}</summary>"
        f"<pre>{escape(yaml.safe_dump(dict(config), sort_keys=False))}</pre></details>"
        for name, config in configs.items()
    )
    return f"<h2>Settings that differ</h2>{table}<h2>Configuration</h2>{whole}"


def _environment(times: Mapping[str, Any]) -> str:
    rows = [[_td(key), _td(str(value))] for key, value in times["environment"].items()]
    return (
        f"<h2>Environment</h2>{_table('environment', ['what', 'value'], rows, sortable=False)}"
        f'<h2>Command</h2><pre id="command">{escape(times["command"])}</pre>'
    )


def _table(name: str, headings: Sequence[str], rows: Sequence[Sequence[str]], sortable: bool = True) -> str:
    numeric = [bool(rows) and all('class="number' in row[i] for row in rows) for i in range(len(headings))]
    head = "".join(
        f"<th{' class=number' if number else ''}>{escape(text)}</th>"
        for text, number in zip(headings, numeric, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    table = f'<table id="{name}"{kind}><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _td(text: str, value: Any = None, kind: str = "") -> str:
    sortable = "" if value is None else f' data-value="{escape(str(value))}"'
    return f"<td{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}{sortable}>{escape(text)}</td>"


def _name(name: str, colours: Mapping[str, str]) -> str:
    swatch = f'<span class="swatch" style="background: {colours[name]}"></span>'
    return f'<td data-value="{escape(name)}">{swatch}{escape(name)}</td>'


def _number(value: float | None, style: str = "") -> str:
    if value is None or not math.isfinite(value):
        return _td("" if value is None else str(value), "", "number")
    return _td(shown(value, style), value, "number")


def shown(value: float, style: str = "") -> str:
    """A number as the tables show it: four decimals, or few digits of small and of large ones."""
    if style == "s":
        return f"{value:,.1f}"
    sign = "+" if style == "+" else ""
    return f"{value:{sign},.4f}" if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:{sign}.2e}"


def _spread(row: Mapping[str, Any]) -> str:
    if row["mean"] is None or row["sd"] is None:
        return _number(row["mean"])
    return _td(f"{shown(row['mean'])} ± {shown(row['sd'])}", row["mean"], "number")


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return _td("", "", "number")
    return _td(f"{shown(row['low'])} to {shown(row['high'])}", row["low"], "number")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _finite(content: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
