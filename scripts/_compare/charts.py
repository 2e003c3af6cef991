"""The interactive charts of a comparison's report."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib import colormaps
from matplotlib.colors import to_hex
from plotly.subplots import make_subplots

from _compare.curves import AXES, Curve, positive_over_decades

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#555555")
"""Colours that colour-blind readers can distinguish (after Okabe and Ito)."""
CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}


def to_html(figure: go.Figure, name: str, with_library: bool = False) -> str:
    """Return a chart as an HTML element with the id `name`; `with_library` adds plotly.js, once per page."""
    return figure.to_html(config=CONFIG, include_plotlyjs=with_library, full_html=False, div_id=name)


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each combination."""
    many = map(to_hex, colormaps["turbo"](np.linspace(0.05, 0.95, len(names))))
    return dict(zip(names, COLOURS if len(names) <= len(COLOURS) else many, strict=False))


def score_chart(results: Mapping[str, Any], colours: Mapping[str, str]) -> go.Figure:
    """Draw every run's result as a dot, and below the dots each combination's mean and 95% interval."""
    figure, names = go.Figure(), list(results["table"])
    for place, (name, row) in enumerate(results["table"].items()):
        runs = [run for run in results["runs"] if run["name"] == name and run["status"] == "finished"]
        values = [run["metrics"][results["metric"]] for run in runs]
        label = escape(name, quote=False)  # plotly's texts are a kind of HTML
        texts = [f"{label}<br>seed {run['seed']}: {value:.4g}" for run, value in zip(runs, values, strict=True)]
        dots = {"color": colours[name], "size": 9, "opacity": 0.65}
        figure.add_scatter(mode="markers", x=values, y=[place] * len(values), text=texts, marker=dots)
        if row["mean"] is None:
            continue
        text, above, below = f"{label}<br>mean {row['mean']:.4g}", 0.0, 0.0
        if row["high"] is not None:
            text += f"<br>95% interval {row['low']:.4g} to {row['high']:.4g}"
            above, below = row["high"] - row["mean"], row["mean"] - row["low"]
        diamond = {"color": colours[name], "size": 10, "symbol": "diamond"}
        bar = {"type": "data", "array": [above], "arrayminus": [below], "symmetric": False}
        bar |= {"color": colours[name], "thickness": 1.5, "width": 5}
        figure.add_scatter(mode="markers", x=[row["mean"]], y=[place + 0.2], text=[text], marker=diamond, error_x=bar)
    figure.update_traces(hoverinfo="text")
    figure.update_layout(template="plotly_white", height=100 + 36 * len(names), showlegend=False)
    figure.update_layout(margin={"l": 70, "r": 20, "t": 20, "b": 50})
    figure.update_xaxes(title_text=results["metric"], range=_range(results))
    # As tick labels, long names have room beside the chart.
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[escape(name, quote=False) for name in names],
        range=[len(names) - 0.4, -0.6],
    )
    return figure


def _range(results: Mapping[str, Any]) -> list[float] | None:
    """Return the initial range of the axis: all runs, and the intervals as far as half the runs' range beyond them."""
    values = [run["metrics"][results["metric"]] for run in results["runs"] if run["status"] == "finished"]
    values = [value for value in values if math.isfinite(value)]
    if not values or min(values) == max(values):
        return None
    low, high = min(values), max(values)
    ends = [row[end] for row in results["table"].values() for end in ("low", "high") if row[end] is not None]
    margin = 0.06 * (high - low)
    bottom = max(min([low, *ends]), low - (high - low) / 2) - margin
    return [bottom, min(max([high, *ends]), high + (high - low) / 2) + margin]


def curve_chart(
    quantity: str, splits: Mapping[str, Mapping[str, Curve]], axis: str, colours: Mapping[str, str]
) -> go.Figure:
    """Draw a quantity's learning curves over `axis` (steps or seconds), with a panel for each split."""
    figure = make_subplots(1, len(splits), subplot_titles=[f"<b>{split}</b>" for split in splits])
    named: set[str] = set()
    for column, (split, by_name) in enumerate(splits.items(), 1):
        for name, curve in by_name.items():
            if getattr(curve, axis):
                if curve.sd:
                    figure.add_trace(_band(curve, axis, name, colours[name]), row=1, col=column)
                label = escape(name, quote=False)
                line = _line(curve, axis, f"{label}, {split}", colours[name])
                line.update(name=label, legendgroup=name, showlegend=name not in named)
                figure.add_trace(line, row=1, col=column)
                named.add(name)
        logarithmic = positive_over_decades([value for curve in by_name.values() for value in curve.mean])
        figure.update_xaxes(title_text=AXES[axis], rangemode="tozero", col=column)
        figure.update_yaxes(title_text=quantity, type="log" if logarithmic else "linear", col=column)
    figure.update_layout(template="plotly_white", height=340, margin={"l": 60, "r": 20, "t": 70, "b": 50})
    figure.update_annotations(font_size=13)
    figure.update_layout(legend={"orientation": "h", "y": 1.12, "yanchor": "bottom", "x": 0})
    return figure


def _line(curve: Curve, axis: str, title: str, colour: str) -> go.Scatter:
    x = getattr(curve, axis)
    points = [list(pair) for pair in zip(curve.sd or [0.0] * len(x), curve.steps, strict=True)]
    text = f"{title}<br>%{{y:.4g}} ± %{{customdata[0]:.2g}}<br>step %{{customdata[1]}}<extra></extra>"
    style = {"mode": "lines+markers" if len(x) < 30 else "lines", "marker": {"size": 5}}
    line = {"color": colour, "width": 2}
    return go.Scatter(x=x, y=curve.mean, customdata=points, hovertemplate=text, line=line, **style)


def _band(curve: Curve, axis: str, name: str, colour: str) -> go.Scatter:
    """Return a band of one standard deviation."""
    x = getattr(curve, axis)
    low, high = np.subtract(curve.mean, curve.sd), np.add(curve.mean, curve.sd)
    style = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": f"{colour}26"}  # 15% opaque
    around = {"x": [*x, *reversed(x)], "y": [*high.tolist(), *reversed(low.tolist())]}
    return go.Scatter(**around, **style, hoverinfo="skip", legendgroup=name, showlegend=False)
