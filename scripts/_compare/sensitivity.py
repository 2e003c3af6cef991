"""How the result of a training depends on one tuned option, most often the learning rate."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any, NamedTuple

import plotly.graph_objects as go

from _compare.space import Space, read_space


class Part(NamedTuple):
    """The trials in one part of a space."""

    at: float  # median of their values of the option
    median: float  # of their results
    low: float
    high: float


def swept_option(tuning: Mapping[str, Any]) -> str | None:
    """Return the last part of the option to show: lr if it is tuned, otherwise the first range; None without one."""
    names = [
        option.rpartition(".")[2]
        for spaces in tuning["spaces"].values()
        for option, text in spaces.items()
        if not read_space(text).choices
    ]
    return "lr" if "lr" in names else next(iter(names), None)


def parts(space: Space, values: Sequence[float], results: Sequence[float]) -> list[Part]:
    """Return median and range of the results in equal parts of a space, of about three trials each, but at least two.

    Example:
        >>> parts(read_space("0..1"), [0.1, 0.2, 0.9], [5.0, 7.0, 1.0])
        [Part(at=0.15..., median=6.0, low=5.0, high=7.0), Part(at=0.9, median=1.0, low=1.0, high=1.0)]
    """
    count = max(len(values) // 3, min(len(values), 2))
    inside: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    for value, result in zip(values, results, strict=True):
        place = min(max(int(space.position(value) * count), 0), count - 1)
        inside[place].append((value, result))
    made = []
    for pairs in inside:
        if pairs:
            found = [result for _, result in pairs]
            made.append(Part(median(value for value, _ in pairs), median(found), min(found), max(found)))
    return made


def sensitivity_chart(tuning: Mapping[str, Any], option: str, colours: Mapping[str, str]) -> go.Figure:
    """Draw the metric of every trial against one option, with median and range, the choice and the default."""
    figure = go.Figure()
    logarithmic = False
    finite = [run["value"] for run in tuning["runs"] if run["value"] is not None]
    bottom = min(finite, default=0.0) if tuning["mode"] == "max" else max(finite, default=0.0)
    for name, spaces in tuning["spaces"].items():
        key = next((key for key in spaces if key.rpartition(".")[2] == option), None)
        space = read_space(spaces[key]) if key is not None else None
        if key is None or space is None or space.choices:
            continue
        logarithmic |= space.log
        runs = [run for run in tuning["runs"] if run["name"] == name]
        _draw(figure, name, colours[name], space, key, runs, tuning["chosen"].get(name), bottom)
        default = tuning["defaults"][name].get(key)
        if isinstance(default, int | float) and math.isfinite(default) and not (space.log and default <= 0):
            figure.add_vline(x=default, line={"color": colours[name], "dash": "dot", "width": 1.5})
    figure.update_layout(template="plotly_white", height=380, margin={"l": 60, "r": 20, "t": 30, "b": 50})
    figure.update_layout(legend={"orientation": "h", "y": 1.05, "yanchor": "bottom", "x": 0})
    figure.update_xaxes(title_text=option, type="log" if logarithmic else "linear", dtick=1 if logarithmic else None)
    figure.update_yaxes(title_text=tuning["metric"])
    return figure


def _draw(
    figure: go.Figure,
    name: str,
    colour: str,
    space: Space,
    key: str,
    runs: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    bottom: float,
) -> None:
    """Draw one combination; the trials without a result are crosses at the `bottom`."""
    label = escape(name, quote=False)  # plotly's texts are a kind of HTML
    ended = [(float(run["values"][key]), run["value"]) for run in runs if run["value"] is not None]
    failed = [float(run["values"][key]) for run in runs if run["value"] is None]
    group = {"legendgroup": name, "name": label}
    made = parts(space, *zip(*ended, strict=True)) if ended else []
    x = [part.at for part in made]
    around = {"x": [*x, *reversed(x)], "y": [*(one.high for one in made), *(one.low for one in reversed(made))]}
    style = {"fill": "toself", "fillcolor": f"{colour}26", "line": {"width": 0}, "mode": "lines"}
    figure.add_scatter(**around, **style, **group, hoverinfo="skip", showlegend=False)
    figure.add_scatter(x=x, y=[one.median for one in made], mode="lines", line={"color": colour, "width": 2}, **group)
    dots = {"color": colour, "size": 7, "opacity": 0.75}
    y = [value for _, value in ended]
    figure.add_scatter(x=[v for v, _ in ended], y=y, mode="markers", marker=dots, **group, showlegend=False)
    cross = {"color": colour, "size": 8, "symbol": "x-thin-open"}
    figure.add_scatter(x=failed, y=[bottom] * len(failed), mode="markers", marker=cross, **group, showlegend=False)
    if best is not None:
        star = {"color": colour, "size": 14, "symbol": "star", "line": {"color": "white", "width": 1}}
        chosen = {"x": [float(best["values"][key])], "y": [best["value"]]}
        figure.add_scatter(**chosen, mode="markers", marker=star, **group, showlegend=False)
