"""`explain.py tabular`: feature weights and single predictions of linear models, trees, boosting and a network."""

from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

from _common.console import print_rows, say
from _common.page import html_table, page, picture
from _common.run import Run
from _explain import html
from _explain.global_explanations import weights
from _explain.local_explanations import BIAS, NotExplainedError, contributions, join
from _explain.tables import Table, Task, csv_table, default_tables
from _explain.tabular_figure import draw
from _explain.tabular_models import INSTALL, OPTIONAL, classifiers, regressors, select

Predictions = dict[str, npt.NDArray[Any]]
TOP = 3
"""Features that are named in the printed tables."""


def tabular(
    csv: Path | None = None,
    target: str = "-1",
    feature_names: str | None = None,
    no_header: bool = False,
    task: Task = "auto",
    missing: Literal["error", "mean"] = "error",
    drop: str = "",
    text: Literal["auto", "onehot", "drop"] = "auto",
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    models: list[str] | None = None,
    rows: list[int] | None = None,
    test_size: float = 0.25,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train models of every kind on a table, and explain the models and their predictions for single rows.

    Without `--csv`, the tables are scikit-learn's diabetes (regression) and breast cancer (classification).

    Args:
        csv: CSV file to learn from.
        target: Name or number of the target column; -1 is the last.
        feature_names: Column names separated by commas, for all columns or for all but the target.
        no_header: Whether the file's first line holds values instead of column names.
        task: Kind of target: auto chooses regression if a value is fractional or more than 100 values are distinct.
        missing: Treatment of empty cells: error refuses them, mean fills in the mean of the training part.
        drop: Columns to leave out, names or numbers separated by commas.
        text: Columns of words: auto makes a 0/1 column of each word, but refuses dates, and words that differ in most
            rows, such as names; onehot takes those too; drop leaves all of them out.
        separator: A character, or comma, semicolon, tab, pipe or space; by default found in the file.
        decimal: Decimal mark, a point or a comma; by default found in the file.
        encoding: Encoding of the file; by default its byte-order mark's, or UTF-8.
        models: Names of the models, such as [linear,forest]; by default all.
        rows: Indices of the test rows to explain, such as [0,5]; by default three of different classes or values.
        test_size: Share of the rows in the test part, between 0 and 1.
        output: Output folder; by default a new one under runs/.
        seed: Random seed.
    """
    if not 0 < test_size < 1:
        raise ValueError(f"--test_size must be a share between 0 and 1, found {test_size}")
    reading = {"separator": separator, "decimal": decimal, "encoding": encoding}
    if csv is None:
        if target != "-1" or feature_names or no_header or drop or text != "auto" or any(reading.values()):
            raise ValueError(
                "--target, --feature_names, --no_header, --drop, --text, --separator, --decimal and --encoding "
                "describe a CSV file: add --csv FILE"
            )
        tables = default_tables(test_size, seed)
    else:
        options: dict[str, Any] = {"drop": drop, "text": text, **reading}
        tables = [csv_table(csv, target, feature_names, no_header, task, missing, test_size, seed, **options)]
    out = Run.at(output)
    for name in OPTIONAL:
        if models is None and name not in regressors():
            say(f"{name} is not installed: {INSTALL}")
    results: dict[str, Any] = {"seed": seed, "tables": {}, "files": {}}
    sections = []
    for table in tables:
        title = f"{table.name}: {table.target_name}"
        explained, content = explain_table(table, models, rows, seed)
        figure, file = draw(title, explained), f"{table.name.replace(' ', '_')}.png"
        figure.savefig(out.folder / file, dpi=150)
        results["tables"][table.name] = explained
        results["files"][table.name] = file
        description = f"Feature weights of models of {table.name}, and contributions to single predictions"
        sections += [f"<h2>{escape(title)}</h2>", picture(figure, description, dpi=130), *content]
    results["files"] |= {"page": "tabular.html", "results": "results.json"}
    whole = page("Explanations of models of a table", *sections, head=html.STYLES)
    (out.folder / "tabular.html").write_text(whole, encoding="utf-8")
    return out.finish(results)


def explain_table(
    table: Table, models: list[str] | None, rows: list[int] | None, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Train and explain every model and print tables; return the table's results, and sections for the page."""
    if strange := [row for row in rows or () if not 0 <= row < len(table.y_test)]:
        raise ValueError(
            f"--rows: {strange[0]} is not a test row of {table.name}; they are 0 to {len(table.y_test) - 1}"
        )
    factories = select(classifiers() if table.classes else regressors(), models)
    fitted = {name: make(seed).fit(table.X, table.y) for name, make in factories.items()}
    predictions = {name: np.asarray(model.predict(table.X_test)) for name, model in fitted.items()}
    selected = _select_rows(table, rows, predictions)
    summary, results, details = {}, {}, {}
    for name, model in fitted.items():
        weight = weights(model, table.features, table.X_test, table.y_test, table.classes, seed)
        scores, shares = _scores(table, predictions[name]), weight.shares()
        top = sorted(shares, key=lambda feature: -shares[feature])[:TOP]
        listed = ", ".join(f"{feature} {shares[feature]:.0%}" for feature in top)
        summary[name] = scores | {"importance from": weight.kind, "most important": listed}
        importance = {"kind": weight.kind, "note": weight.note, "shares": shares, "values": weight.values}
        results[name] = {"scores": scores, "importance": importance}
        details[name] = html.paragraph(weight.note, "note") + html.explanation_html(weight.explanation)
    size = f"{len(table.X):,} training and {len(table.X_test):,} test rows"
    print_rows(f"{table.name}: {table.target_name}; {size}", summary, "model")
    sections = [html.paragraph(size), html_table([{"model": name} | row for name, row in summary.items()])]
    sections.append(html.fold("Feature weights of every model", html.cards(details)))
    explained = []
    for row in selected:
        result, content = _explain_row(table, row, fitted, predictions)
        explained.append(result)
        sections += content
    for name, result in explained[0]["models"].items() if explained else []:
        if "error" in result:
            say(f"{name}: its predictions cannot be explained ({result['error']})")
    return {
        "task": "classification" if table.classes else "regression",
        "target": table.target_name,
        "features": table.features,
        "classes": table.classes,
        "train": len(table.X),
        "test": len(table.X_test),
        "models": results,
        "rows": explained,
    }, sections


def _scores(table: Table, predicted: npt.NDArray[Any]) -> dict[str, float]:
    if table.classes:
        f1 = f1_score(table.y_test, predicted, average="macro")
        return {"accuracy": float(accuracy_score(table.y_test, predicted)), "macro F1": float(f1)}
    error = mean_absolute_error(table.y_test, predicted)
    return {"R²": float(r2_score(table.y_test, predicted)), "mean error": float(error)}


def _select_rows(table: Table, wanted: list[int] | None, predictions: Predictions) -> list[int]:
    """Return the test rows to explain.

    The default for regression: the rows nearest to the target's 90%, 50% and 10% quantiles; for classification: the
    first row of up to three classes, the last of them replaced by the row that most models get wrong.
    """
    if wanted is not None:
        return list(dict.fromkeys(wanted))
    if not table.classes:
        quantiles = np.quantile(table.y_test, [0.9, 0.5, 0.1])
        return list(dict.fromkeys(int(np.abs(table.y_test - value).argmin()) for value in quantiles))
    wrong = np.sum([predicted != table.y_test for predicted in predictions.values()], axis=0)
    rows = [int((table.y_test == label).argmax()) for label in range(len(table.classes)) if label in table.y_test]
    hardest = [int(wrong.argmax())] if wrong.max() > 0 else []
    return list(dict.fromkeys([*rows[: 3 - len(hardest)], *hardest]))


def _explain_row(
    table: Table, row: int, fitted: dict[str, Any], predictions: Predictions
) -> tuple[dict[str, Any], list[str]]:
    """Explain every model's prediction for one row; return its results, and sections for the page."""
    values = dict(zip(table.features, table.X_test[row].tolist(), strict=True))
    truth = _named(table, table.y_test[row])
    summary: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    details: dict[str, str] = {}
    for name, model in fitted.items():
        predicted = _named(table, predictions[name][row])
        label = predictions[name][row] if table.classes else None
        results[name], summary[name] = {"prediction": predicted}, {"prediction": predicted}
        try:
            parts = contributions(model, table.X_test[row], table.features, label)
        except NotExplainedError as error:
            results[name]["error"] = str(error)
            summary[name]["contributions"] = f"cannot be explained: {error}"
            details[name] = html.paragraph(f"The prediction {predicted} cannot be explained: {error}", "note")
            continue
        gap = f"the contributions' sum differs from the model's output {parts.output:.6g} by {parts.difference:.2g}"
        note = join(parts.note, "" if parts.is_complete else gap)
        results[name] |= {
            "output": parts.output,
            "unit": parts.unit,
            "contributions": parts.values,
            "difference": parts.difference,
            "note": note,
        }
        features = sorted((one for one in parts.values if one != BIAS), key=lambda one: -abs(parts.values[one]))
        summary[name] |= {"explained": f"{parts.unit} {parts.output:.4g}"} if table.classes else {}
        summary[name]["contributions"] = ", ".join(f"{one} {_number(parts.values[one], '+')}" for one in features[:TOP])
        explanation = parts.explanation(name, predicted if table.classes else table.target_name, values)
        details[name] = html.paragraph(note, "note") + html.explanation_html(explanation, values=True)
    title = f"{table.name}, test row {row}: {table.target_name} is {truth}"
    print_rows(title, summary, "model")
    content = [f"<h2>{escape(title)}</h2>", html_table([{"model": name} | one for name, one in summary.items()])]
    content.append(html.fold("Every contribution", html.cards(details)))
    return {"row": row, "truth": truth, "values": values, "models": results}, content


def _named(table: Table, value: Any) -> str:
    return table.classes[int(value)] if table.classes else _number(float(value))


def _number(value: float, sign: str = "") -> str:
    """Format a number with four significant digits, or all those before the decimal point."""
    return f"{value:{sign},.0f}" if abs(value) >= 1e4 else f"{value:{sign}.4g}"
