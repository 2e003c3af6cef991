"""Markdown tables of a study's record, which `scripts/compare.py --results FILE` writes."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(part: str, record: Mapping[str, Any]) -> str:
    """Return a part of a record as a table: `table`, `tuning` (choices and cost), or `targets` (what reaching costs).

    Raises:
        ValueError: If there is no such part.
    """
    parts = {"table": _results}
    parts |= {"tuning": _tuning} if record["tuning"] is not None else {}
    parts |= {"targets": _targets} if record.get("targets") else {}
    if part not in parts:
        raise ValueError(f"this study has the parts {', '.join(parts)}, found {part}")
    return parts[part](record)


def head(record: Mapping[str, Any]) -> str:
    """Return the line that says how and where a study was made."""
    where, tuning = record["environment"], record["tuning"]
    tuned = f"{tuning['trials']} trials each, chosen by {tuning['metric']}; " if tuning is not None else ""
    return (
        f"`{record['command']}`: {tuned}{len(record['seeds'])} seeds; {where['device']} ({where['processor']}), "
        f"{where['threads a run']} thread a run, torch {where['torch']}, {where['date'][:10]}, commit {where['commit']}"
    )


def _results(record: Mapping[str, Any]) -> str:
    metric = record["metric"]
    sharp = "train/top_eigenvalue" in record["others"]
    rows = [["", f"{metric}, mean and 95% interval", "difference (95% interval)", "p (Holm)", "seconds a run"]]
    rows[0] += ["top eigenvalue"] if sharp else []
    for name, row in record["table"].items():
        test = record["tests"].get(name, {})
        seconds = [run["seconds"] for run in record["runs"] if run["name"] == name and run.get("seconds")]
        rows.append(
            [
                name,
                _with_interval(row, "mean"),
                "baseline" if name == record["baseline"] else _with_interval(test, "difference", "+"),
                _p_value(test.get("holm")),
                f"{sum(seconds) / len(seconds):.1f}" if seconds else "",
            ]
        )
        rows[-1] += [_number(row["others"]["train/top_eigenvalue"], digits=2)] if sharp else []
    for name, found in record["ensembles"].items():
        value = (found or {}).get(metric.removeprefix("test/"))
        if value is not None:
            rows.append([f"{name}, ensemble of {record['table'][name]['n']}", _number(value), "", "", ""])
            rows[-1] += [""] if sharp else []
    return _table(rows)


def _tuning(record: Mapping[str, Any]) -> str:
    tuning = record["tuning"]
    rows = [["", "space", "without tuning", "chosen", f"{tuning['metric']}: best, median, worst", "runs"]]
    for name, spaces in tuning["spaces"].items():
        if not spaces:
            rows.append([name, "none: it tunes itself", "", "", "", "0"])
            continue
        values = sorted(run["value"] for run in tuning["runs"] if run["name"] == name and run["value"] is not None)
        values = values[::-1] if tuning["mode"] == "max" else values
        best = tuning["chosen"][name]
        short = {option: option.rpartition(".")[2] for option in spaces}
        rows.append(
            [
                name,
                "; ".join(f"{short[option]} {space}" for option, space in spaces.items()),
                "; ".join(str(tuning["defaults"][name].get(option)) for option in spaces),
                "; ".join(value + _at_edge(best, option) for option, value in best["values"].items()),
                ", ".join(_number(one) for one in (values[0], values[(len(values) - 1) // 2], values[-1])),
                str(tuning["trials"]),
            ]
        )
    return _table(rows)


def _targets(record: Mapping[str, Any]) -> str:
    rows = [["", "reached", "steps", "epochs", "evaluations of the loss"]]
    for made in record["targets"]:
        sign = "≥" if made["mode"] == "max" else "≤"
        for name, row in made["table"].items():
            costs = [_cost(row[key]) for key in ("steps", "epochs", "evaluations")]
            rows.append(
                [f"{made['metric']} {sign} {made['value']:g}: {name}", f"{row['reached']} of {row['runs']}", *costs]
            )
    return _table(rows)


def _cost(cell: Mapping[str, float | None]) -> str:
    """A median with its interval; JSON has null for infinity, where a target was not reached."""
    median, low, high = ("∞" if (value := cell[key]) is None else f"{value:,.0f}" for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def _p_value(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value, digits=3)


def _at_edge(best: Mapping[str, Any], option: str) -> str:
    end = best["edges"].get(option)
    return f" (near the {end} end)" if end else ""


def _with_interval(row: Mapping[str, Any], key: str, sign: str = "") -> str:
    if row.get(key) is None:
        return ""
    ends = [_number(row[end], sign) for end in ("low", "high") if row[end] is not None]
    return _number(row[key], sign) + (f" ({' to '.join(ends)})" if ends else "")


def _number(value: float | None, sign: str = "", digits: int = 4) -> str:
    return "" if value is None else f"{value:{sign}.{digits}f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "| --- |" + " ---: |" * (len(rows[0]) - 1), *lines[1:]])
