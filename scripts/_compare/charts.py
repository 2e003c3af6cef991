"""The charts of a comparison's report, as the data and layouts that plotly draws."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import to_hex

from _compare.curves import AXES, Curve, positive_over_decades

Chart = dict[str, Any]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#555555")
"""Distinct to the colour-blind too (after Okabe and Ito)."""
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#222"}
GRID = {"gridcolor": "#e8e8e8", "zeroline": False, "linecolor": "#bbb", "ticks": "outside", "tickcolor": "#bbb"}


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each combination."""
    if len(names) <= len(COLOURS):
        return dict(zip(names, COLOURS, strict=False))
    scale = colormaps["turbo"]
    return {name: to_hex(scale(0.05 + 0.9 * place / (len(names) - 1))) for place, name in enumerate(names)}


def score_chart(results: Mapping[str, Any], colours: Mapping[str, str]) -> Chart:
    """Every run's result as a dot, each combination's mean and 95% interval below them."""
    data = []
    for place, (name, row) in enumerate(results["table"].items()):
        runs = [run for run in results["runs"] if run["name"] == name and run["status"] == "finished"]
        values = [run["metrics"][results["metric"]] for run in runs]
        seeds = [f"{name}<br>seed {run['seed']}: {value:.4g}" for run, value in zip(runs, values, strict=True)]
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": values, "y": [place] * len(values), "name": name,
                "text": seeds, "hoverinfo": "text", "showlegend": False,
                "marker": {"color": colours[name], "size": 9, "opacity": 0.65},
            }
        )  # fmt: skip
        if row["mean"] is None:
            continue
        bar = [row["high"] - row["mean"]] if row["high"] is not None else [0]
        text = f"{name}<br>mean {row['mean']:.4g}"
        text += f"<br>95% interval {row['low']:.4g} to {row['high']:.4g}" if row["high"] is not None else ""
        data.append(
            {
                "type": "scatter", "mode": "markers", "x": [row["mean"]], "y": [place + 0.2], "showlegend": False,
                "text": [text], "hoverinfo": "text",
                "marker": {"color": colours[name], "size": 10, "symbol": "diamond"},
                "error_x": {"type": "data", "array": bar, "color": colours[name], "thickness": 1.5, "width": 5},
            }
        )  # fmt: skip
    names = list(results["table"])
    # Names are long: they stand in a column of their own, in the table's order.
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}
    layout = _layout(100 + 36 * len(names)) | {
        "xaxis": GRID | {"title": {"text": results["metric"]}} | _range(results),
        "yaxis": GRID | rows | {"automargin": True},
        "margin": {"l": 70, "r": 20, "t": 20, "b": 50},
    }
    return {"data": data, "layout": layout}


def _range(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the axis shows at first: the runs, and the intervals up to twice as wide, out of which few seeds reach."""
    values = [run["metrics"][results["metric"]] for run in results["runs"] if run["status"] == "finished"]
    values = [value for value in values if math.isfinite(value)]
    if not values or min(values) == max(values):
        return {}
    low, high = min(values), max(values)
    ends = [row[end] for row in results["table"].values() for end in ("low", "high") if row[end] is not None]
    margin = 0.06 * (high - low)
    bottom = max(min([low, *ends]), low - (high - low) / 2) - margin
    return {"range": [bottom, min(max([high, *ends]), high + (high - low) / 2) + margin]}


def curve_charts(
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], colours: Mapping[str, str]
) -> dict[str, dict[str, Chart]]:
    """Quantity -> steps or seconds -> chart with a panel for each split."""
    return {
        quantity: {axis: _curve_chart(quantity, splits, axis, colours) for axis in AXES}
        for quantity, splits in curves.items()
    }


def _curve_chart(quantity: str, splits: Mapping[str, Mapping[str, Curve]], axis: str, colours: Any) -> Chart:
    data: list[dict[str, Any]] = []
    layout = _layout(340) | {"grid": {"rows": 1, "columns": len(splits), "pattern": "independent", "xgap": 0.18}}
    layout |= {
        "legend": {"orientation": "h", "y": 1.12, "yanchor": "bottom", "x": 0},
        "annotations": [],
        "hovermode": "closest",
    }
    named: set[str] = set()
    for place, (split, by_name) in enumerate(splits.items(), 1):
        number = "" if place == 1 else str(place)
        for name, curve in by_name.items():
            x = getattr(curve, axis)
            if x:
                data += _band(curve, x, name, colours[name], number)
                data.append(_line(curve, x, split, name, colours[name], number) | {"showlegend": name not in named})
                named.add(name)
        logarithmic = positive_over_decades([value for curve in by_name.values() for value in curve.mean])
        layout[f"xaxis{number}"] = GRID | {"title": {"text": AXES[axis]}, "rangemode": "tozero"}
        layout[f"yaxis{number}"] = GRID | {"title": {"text": quantity}, "automargin": True}
        layout[f"yaxis{number}"] |= {"type": "log"} if logarithmic else {}
        layout["annotations"].append(_title(split, number))
    return {"data": data, "layout": layout}


def _line(curve: Curve, x: Sequence[float], split: str, name: str, colour: str, number: str) -> dict[str, Any]:
    spread = curve.sd or [0.0] * len(x)
    return {
        "type": "scatter", "mode": "lines+markers" if len(x) < 30 else "lines", "x": x, "y": curve.mean, "name": name,
        "legendgroup": name, "line": {"color": colour, "width": 2}, "marker": {"size": 5},
        "customdata": [list(pair) for pair in zip(spread, curve.steps, strict=True)],
        "hovertemplate": f"{name}, {split}<br>%{{y:.4g}} ± %{{customdata[0]:.2g}}<br>step %{{customdata[1]}}"
        "<extra></extra>",
        "xaxis": f"x{number}", "yaxis": f"y{number}",
    }  # fmt: skip


def _band(curve: Curve, x: Sequence[float], name: str, colour: str, number: str) -> list[dict[str, Any]]:
    if not curve.sd:
        return []
    low = [mean - sd for mean, sd in zip(curve.mean, curve.sd, strict=True)]
    high = [mean + sd for mean, sd in zip(curve.mean, curve.sd, strict=True)]
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return [
        {
            "type": "scatter", "mode": "lines", "x": [*x, *reversed(x)], "y": [*high, *reversed(low)], "fill": "toself",
            "fillcolor": f"rgba({red}, {green}, {blue}, 0.15)", "line": {"width": 0}, "hoverinfo": "skip",
            "legendgroup": name, "showlegend": False, "xaxis": f"x{number}", "yaxis": f"y{number}",
        }
    ]  # fmt: skip


def _title(text: str, number: str) -> dict[str, Any]:
    return {
        "text": f"<b>{text}</b>", "showarrow": False, "xref": f"x{number} domain", "yref": f"y{number} domain",
        "x": 0.5, "y": 1.02, "xanchor": "center", "yanchor": "bottom",
    }  # fmt: skip


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height, "font": FONT, "paper_bgcolor": "white", "plot_bgcolor": "white",
        "margin": {"l": 60, "r": 20, "t": 70, "b": 50}, "hoverlabel": {"bgcolor": "white", "font": FONT},
    }  # fmt: skip
