"""The report of a comparison: one self-contained web page."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from _common.page import page
from _compare.charts import curve_chart, score_chart, to_html
from _compare.curves import Curve

ASSETS = Path(__file__).parent
Row = dict[str, str]
"""Heading -> table cell, as HTML."""


def report(
    results: Mapping[str, Any],
    times: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]],
    colours: Mapping[str, str],
) -> str:
    """Return the page.

    Args:
        results: The contents of results.json.
        times: The contents of times.json.
        configs: Combination -> flat configuration.
        curves: Quantity -> split -> combination -> curve.
        colours: Combination -> colour.
    """
    sections = [
        _lead(results),
        _summary(results, times, colours),
        to_html(score_chart(results, colours), "scores", with_library=True),
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
    extra = [name for name in results["others"] if any(row["others"].get(name) for row in results["table"].values())]
    rows = []
    for name, row in results["table"].items():
        test = results["tests"].get(name) or {}
        verdict = "baseline" if name == results["baseline"] else test.get("conclusion", "")
        seconds = [run["seconds"] for run in times["runs"] if run["name"] == name and run["seconds"]]
        rows.append(
            {
                "combination": _name(name, colours),
                "runs": _td(f"{row['n']} of {len(results['seeds'])}", row["n"], "" if row["n"] else "failed"),
                "mean ± sd": _range(row["mean"], "±", row["sd"]),
                "95% interval": _range(row["low"], "to", row["high"]),
                "difference": _number(test.get("difference"), "+"),
                "p": _number(test.get("p")),
                "p, Holm": _number(test.get("holm")),
                "conclusion": _td(verdict, kind=verdict if verdict in ("higher", "lower") else "muted"),
                **{key: _number(row["others"].get(key)) for key in extra},
                "seconds": _number(sum(seconds) / len(seconds) if seconds else None, "s"),
            }
        )
    return "<h2>Results</h2>" + _table("results", rows)


def _runs(results: Mapping[str, Any], times: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    rows = []
    for run, time in zip(results["runs"], times["runs"], strict=True):
        failed, folder = run["status"] != "finished", escape(time["folder"] or "")
        rows.append(
            {
                "combination": _name(run["name"], colours),
                "seed": _td(str(run["seed"]), run["seed"], "number"),
                "status": _td(run["error"] if failed else run["status"], kind="failed" if failed else ""),
                **{key: _number(run.get("metrics", {}).get(key)) for key in (results["metric"], *results["others"])},
                "seconds": _number(time["seconds"], "s"),
                "folder": f'<td><a href="{folder}/">{folder}</a></td>' if folder else _td(""),
            }
        )
    return "<h2>Runs</h2>" + _table("runs", rows)


def _curves(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], colours: Mapping[str, str]) -> str:
    if not curves:
        return "<h2>Learning curves</h2><p>The runs have logged none.</p>"
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
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    rows = [
        {"setting": _td(key)}
        | {name: _td(str(config[key]) if key in config else "", kind="number") for name, config in configs.items()}
        for key in keys
        if len({str(config.get(key)) for config in configs.values()}) > 1
    ]
    details = "".join(
        f"<details><summary>all settings of {escape(name)}</summary>"
        f"<pre>{escape(yaml.safe_dump(dict(config), sort_keys=False))}</pre></details>"
        for name, config in configs.items()
    )
    table = _table("settings", rows) if rows else "<p>All settings are the same.</p>"
    return f"<h2>Settings that differ</h2>{table}<h2>Configuration</h2>{details}"


def _environment(times: Mapping[str, Any]) -> str:
    rows = [{"item": _td(key), "value": _td(str(value))} for key, value in times["environment"].items()]
    return (
        f"<h2>Environment</h2>{_table('environment', rows, sortable=False)}"
        f'<h2>Command</h2><pre id="command">{escape(times["command"])}</pre>'
    )


def _table(name: str, rows: Sequence[Row], sortable: bool = True) -> str:
    headings = list(rows[0])
    numeric = {heading: all('class="number' in row[heading] for row in rows) for heading in headings}
    head = "".join(f"<th{' class=number' if numeric[text] else ''}>{escape(text)}</th>" for text in headings)
    body = "\n".join(f"<tr>{''.join(row.values())}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    table = f'<table id="{name}"{kind}><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _td(text: str, value: Any = None, kind: str = "") -> str:
    """Return a table cell; `value` is what it is sorted by, if not its text."""
    style = f' class="{kind}"' if kind else ""
    sort_key = "" if value is None else f' data-value="{escape(str(value))}"'
    return f"<td{style}{sort_key}>{escape(text)}</td>"


def _name(name: str, colours: Mapping[str, str]) -> str:
    swatch = f'<span class="swatch" style="background: {colours[name]}"></span>'
    return f'<td data-value="{escape(name)}">{swatch}{escape(name)}</td>'


def _number(value: float | None, style: str = "") -> str:
    if value is None or not math.isfinite(value):
        return _td("" if value is None else str(value), "", "number")
    return _td(format_number(value, style), value, "number")


def _range(first: float | None, word: str, second: float | None) -> str:
    if first is None or second is None:
        return _number(first)
    return _td(f"{format_number(first)} {word} {format_number(second)}", first, "number")


def format_number(value: float, style: str = "") -> str:
    """Format a number for a table: four decimals, or few digits for very small and very large ones.

    Args:
        value: The number.
        style: `s` for seconds, with one decimal; `+` to write the sign of a positive number too.
    """
    if style == "s":
        return f"{value:,.1f}"
    return f"{value:{style},.4f}" if value == 0 or 1e-4 <= abs(value) < 1e6 else f"{value:{style}.2e}"
