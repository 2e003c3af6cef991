"""``explain.py tabular``: what linear models, trees, forests, boosting and a network make of a table."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

from _common.console import print_files, print_rows, say
from _common.page import page, picture
from _common.runs import new_run, write_json
from _explain.captions import STYLES, cards, explanation_html, fold, heading, paragraph, rows_html
from _explain.global_explanations import weights
from _explain.local_explanations import BIAS, NotExplainedError, contributions
from _explain.tables import Table, Task, csv_table, default_tables
from _explain.tabular_figure import figure
from _explain.tabular_models import INSTALL, OPTIONAL, chosen, classifiers, installed, regressors

Array = npt.NDArray[Any]


def tabular(
    csv: Path | None = None,
    target: str = "-1",
    feature_names: str | None = None,
    no_header: bool = False,
    task: Task = "auto",
    missing: Literal["error", "mean"] = "error",
    models: list[str] | None = None,
    rows: list[int] | None = None,
    test_size: float = 0.25,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train models of every kind on a table, and explain each of them and its predictions for single rows.

    Without ``--csv`` these are scikit-learn's diabetes (regression) and breast cancer (classification).

    Args:
        csv: A CSV file to learn from.
        target: Name or number of its target column; -1 is the last.
        feature_names: Names of its columns separated by commas: of all, or of all but the target.
        no_header: The first line of the file holds values, no names.
        task: Whether the target is a class or a number; auto takes it for a number if a value is not whole, or if
            there are more than 100 different ones.
        missing: What to do about empty cells: error, or mean of the training part.
        models: Names of the models, such as [linear,forest]; all by default.
        rows: Numbers of the test rows to explain, such as [0,5]; by default some that differ.
        test_size: Share of the rows to test on.
        output: Folder for what is written; by default a new one under runs/.
        seed: Of the split, the models and the permutations.

    Returns:
        What results.json holds.
    """
    if not 0 < test_size < 1:
        raise ValueError(f"--test_size must be a share between 0 and 1, found {test_size}")
    if csv is None:
        if target != "-1" or feature_names or no_header:
            raise ValueError("--target, --feature_names and --no_header describe a CSV file: add --csv FILE")
        tables = default_tables(test_size, seed)
    else:
        tables = [csv_table(csv, target, feature_names, no_header, task, missing, test_size, seed)]
    folder = output or new_run("runs")
    folder.mkdir(parents=True, exist_ok=True)
    for name in OPTIONAL:
        if not installed(name) and models is None:
            say(f"{name} is not installed: {INSTALL}")
    results: dict[str, Any] = {"seed": seed, "tables": {}, "files": {}}
    sections = []
    for table in tables:
        found, html = explain_table(table, models, rows, seed)
        name = f"{table.name.replace(' ', '_')}.png"
        drawing = figure(f"{table.name}: {table.target_name}", found)
        drawing.savefig(folder / name, dpi=150)
        results["tables"][table.name] = found
        results["files"][f"{table.name}"] = name
        shown = picture(drawing, f"What models of {table.name} look at, in general and for single rows", dpi=130)
        sections += [heading(f"{table.name}: {table.target_name}"), shown, *html]
    results["files"] |= {"page": "tabular.html", "results": "results.json"}
    (folder / "tabular.html").write_text(page("What models make of a table", *sections, head=STYLES), encoding="utf-8")
    write_json(folder / "results.json", results)
    print_files(folder, results["files"])
    return results


def explain_table(
    table: Table, models: list[str] | None, rows: list[int] | None, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Train and explain; print tables; return numbers for results.json, and sections for the page."""
    factories = chosen(regressors() if table.is_regression else classifiers(), models)
    fitted = {name: make(seed).fit(table.X, table.y) for name, make in factories.items()}
    predictions = {name: np.asarray(model.predict(table.X_test)) for name, model in fitted.items()}
    general = {
        name: weights(model, table.features, table.X_test, table.y_test, table.classes, seed)
        for name, model in fitted.items()
    }
    chosen_rows = _rows(table, rows, predictions)
    summary: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in fitted:
        shares = general[name].shares()
        best = sorted(shares, key=lambda feature: -shares[feature])[:3]
        scores = _scores(table, predictions[name])
        listed = ", ".join(f"{feature} {shares[feature]:.0%}" for feature in best)
        summary[name] = scores | {"importance by": general[name].kind, "of which": listed}
        importance = {"kind": general[name].kind, "note": general[name].note, "shares": shares}
        found[name] = {"scores": scores, "importance": importance | {"values": general[name].values}}
    results: dict[str, Any] = {
        "task": "regression" if table.is_regression else "classification",
        "target": table.target_name,
        "features": table.features,
        "classes": table.classes,
        "train": len(table.X),
        "test": len(table.X_test),
        "models": found,
    }
    size = f"{len(table.X):,} rows to learn from, {len(table.X_test):,} to test on"
    print_rows(f"{table.name}: {table.target_name}; {size}", summary, "model")
    html = [paragraph(size), rows_html(summary, "model")]
    all_weights = {
        name: (paragraph(one.note, "note") if one.note else "") + explanation_html(one.explanation)
        for name, one in general.items()
    }
    html.append(fold("Every model's weights", cards(all_weights)))
    results["rows"] = []
    for row in chosen_rows:
        explained, sections = _explain_row(table, row, fitted, predictions)
        results["rows"].append(explained)
        html += sections
    _say_unexplained(results["rows"])
    return results, html


def _scores(table: Table, predicted: Array) -> dict[str, float]:
    if table.is_regression:
        return {
            "R²": float(r2_score(table.y_test, predicted)),
            "mean error": float(mean_absolute_error(table.y_test, predicted)),
        }
    return {
        "accuracy": float(accuracy_score(table.y_test, predicted)),
        "macro F1": float(f1_score(table.y_test, predicted, average="macro")),
    }


def _rows(table: Table, wanted: list[int] | None, predictions: dict[str, Array]) -> list[int]:
    """Test rows to explain.

    For regression those nearest to the target's 10%, 50% and 90% quantile; for classes the first row of up to three,
    and the one that most models get wrong.
    """
    count = len(table.y_test)
    if wanted is not None:
        for row in wanted:
            if not 0 <= row < count:
                raise ValueError(f"--rows: {row} is not a test row of {table.name}; they are 0 to {count - 1}")
        return list(dict.fromkeys(wanted))
    if table.is_regression:
        quantiles = np.quantile(table.y_test, [0.9, 0.5, 0.1])
        return list(dict.fromkeys(int(np.abs(table.y_test - value).argmin()) for value in quantiles))
    wrong = np.sum([predicted != table.y_test for predicted in predictions.values()], axis=0)
    rows = [int((table.y_test == label).argmax()) for label in range(len(table.classes)) if label in table.y_test]
    hardest = [int(wrong.argmax())] if wrong.max() > 0 else []
    return list(dict.fromkeys([*rows[: 3 - len(hardest)], *hardest]))


def _explain_row(
    table: Table, row: int, fitted: dict[str, Any], predictions: dict[str, Array]
) -> tuple[dict[str, Any], list[str]]:
    """What each model says about one row."""
    values = dict(zip(table.features, table.X_test[row].tolist(), strict=True))
    truth = _named(table, table.y_test[row])
    summary: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    details: dict[str, str] = {}
    for name, model in fitted.items():
        predicted = _named(table, predictions[name][row])
        found[name] = {"prediction": predicted}
        label = None if table.is_regression else predictions[name][row]
        try:
            one = contributions(model, table.X_test[row], table.features, label)
        except NotExplainedError as error:
            found[name]["error"] = str(error)
            summary[name] = {"prediction": predicted, "contributions": f"cannot be explained: {error}"}
            details[name] = paragraph(f"Its prediction {predicted} cannot be explained: {error}", "note")
            continue
        notes = [one.note] if one.note else []
        if not one.is_complete:
            notes.append(f"the contributions miss the model's output {one.output:.6g} by {one.difference:.2g}")
        found[name] |= {
            "output": one.output,
            "unit": one.unit,
            "contributions": one.values,
            "difference": one.difference,
            "note": "; ".join(notes),
        }
        strongest = sorted((feature for feature in one.values if feature != BIAS), key=lambda f: -abs(one.values[f]))
        listed = ", ".join(f"{feature} {_number(one.values[feature], '+')}" for feature in strongest[:3])
        explained = {} if table.is_regression else {"explained": f"{one.unit} {one.output:.4g}"}
        summary[name] = {"prediction": predicted} | explained | {"contributions": listed}
        explanation = one.explanation(name, predicted if table.classes else table.target_name, values)
        note = paragraph("; ".join(notes), "note") if notes else ""
        details[name] = note + explanation_html(explanation, values=True)
    title = f"{table.name}, test row {row}: {table.target_name} is {truth}"
    print_rows(title, summary, "model")
    result = {"row": row, "truth": truth, "values": values, "models": found}
    return result, [heading(title), rows_html(summary, "model"), fold("Every contribution", cards(details))]


def _named(table: Table, value: Any) -> str:
    return table.classes[int(value)] if table.classes else _number(float(value))


def _number(value: float, sign: str = "") -> str:
    """Four digits, or all before the point."""
    return f"{value:{sign},.0f}" if abs(value) >= 1e4 else f"{value:{sign}.4g}"


def _say_unexplained(rows: list[dict[str, Any]]) -> None:
    """One line for each model whose predictions have no explanation."""
    for name in rows[0]["models"] if rows else []:
        error = rows[0]["models"][name].get("error")
        if error:
            say(f"{name}: its predictions cannot be explained ({error})")
