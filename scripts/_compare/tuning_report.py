"""The part of a comparison's report about tuning: spaces, choices, cost, warnings, sensitivity and every trial."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from _common.console import cell
from _common.page import Cell, html_table
from _compare.charts import to_html
from _compare.sensitivity import sensitivity_chart, swept_option
from _compare.space import EDGE

END = {"low": "lowest", "high": "highest"}


def tuning_section(tuning: Mapping[str, Any] | None, colours: Mapping[str, str]) -> str:
    """Return the section, empty without tuning; `colours` are those of the combinations of the table."""
    if tuning is None:
        return ""
    shades = {name: colours.get(f"{name}, tuned", colours.get(name, "#555555")) for name in tuning["spaces"]}
    better = "highest" if tuning["mode"] == "max" else "lowest"
    cost = (
        f"<p>{tuning['trials']} trials for each combination, none stopped early, chosen by the {better} "
        f"<b>{escape(tuning['metric'])}</b>. Trials do not read the test split; the table's runs have fresh seeds. "
        f"Together {_cost(tuning['runs'])}.</p>"
    )
    option = swept_option(tuning)
    chart = to_html(sensitivity_chart(tuning, option, shades), "sensitivity") if option is not None else ""
    legend = (
        '<p class="muted">Dots: trials; crosses: trials that failed. Line and band: median and range of the trials in '
        "each part of the space. Star: the chosen value; dotted line: the value without tuning.</p>"
    )
    trials = html_table([_trial(run, tuning) for run in tuning["runs"]], "trials", "sortable")
    return "\n".join(
        [
            "<h2>Tuning</h2>",
            cost,
            *(f'<p class="note few">{escape(line)}</p>' for line in warnings(tuning)),
            html_table(_choices(tuning), "tuning", "sortable"),
            chart + legend if chart else "",
            f"<details><summary>all {len(tuning['runs'])} trials</summary>{trials}</details>",
        ]
    )


def warnings(tuning: Mapping[str, Any]) -> list[str]:
    """Return a line for each chosen value at an end of its space."""
    lines = []
    for name, best in tuning["chosen"].items():
        for option, end in best["edges"].items():
            space = tuning["spaces"][name][option]
            lines.append(
                f"{name}: the best {option}, {best['values'][option]}, is in the {END[end]} {EDGE:.0%} of {space}: "
                "a wider space may have a better one"
            )
    return lines


def _choices(tuning: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each tuned option, and one for each combination that tunes itself."""
    rows: list[dict[str, Any]] = []
    for name, spaces in tuning["spaces"].items():
        runs = [run for run in tuning["runs"] if run["name"] == name]
        best = tuning["chosen"].get(name)
        for option, space in spaces.items():
            rows.append(
                {
                    "combination": name,
                    "option": option,
                    "space": space,
                    "without tuning": str(tuning["defaults"][name].get(option)),
                    "chosen": best["values"][option] if best else "",
                    f"best {tuning['metric']}": best["value"] if best else None,
                    "cost": _cost(runs),
                }
            )
        if not spaces:
            rows.append({"combination": name, "option": "none: it tunes itself", "cost": "no trials"})
    return rows


def _cost(runs: Sequence[Mapping[str, Any]]) -> str:
    seconds = [run["seconds"] for run in runs if run.get("seconds")]
    failed = sum(run["value"] is None for run in runs)
    text = f"{len(runs)} runs, {sum(seconds):,.0f} s of training"
    return text + (f", {failed} of them without a result" if failed else "")


def _trial(run: Mapping[str, Any], tuning: Mapping[str, Any]) -> dict[str, Any]:
    best = tuning["chosen"].get(run["name"], {}).get("trial") == run["trial"]
    status = "chosen" if best else run["status"] if run["value"] is not None or "error" in run else "not finite"
    return {
        "combination": run["name"],
        "trial": run["trial"],
        "values": ", ".join(f"{option.rpartition('.')[2]} {value}" for option, value in run["values"].items()),
        tuning["metric"]: run["value"],
        "status": Cell(f'<td class="failed">{escape(run["error"])}</td>') if "error" in run else status,
        "seconds": cell(run["seconds"]) if run.get("seconds") else "",
    }


def tuning_rows(tuning: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return a row for the terminal for each combination."""
    rows = {}
    for name in tuning["spaces"]:
        best = tuning["chosen"].get(name)
        values = [run["value"] for run in tuning["runs"] if run["name"] == name and run["value"] is not None]
        if best is None:
            rows[name] = {"chosen": "it tunes itself: no trials"}
            continue
        chosen = ", ".join(f"{option.rpartition('.')[2]} {value}" for option, value in best["values"].items())
        rows[name] = {"chosen": chosen, "best": cell(best["value"]), "median": cell(statistics.median(values))}
    return rows
