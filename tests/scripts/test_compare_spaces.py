"""Spaces and trials: the grammar, the assignment to combinations, the points, the choice, and the shipped spaces."""

import math

import pytest

import compare
from _compare import tuning as ours
from _compare.grid import Combination
from _compare.sensitivity import parts, swept_option
from _compare.space import read_space
from _compare.spaces import assign, read_tune, shipped
from _compare.tuning_report import warnings


@pytest.mark.parametrize(
    ("text", "values"),
    {
        "1e-4..1e-1 log": ["0.0001", "0.00316228", "0.1"],
        "0..0.9": ["0", "0.45", "0.9"],
        "-1..1": ["-1", "0", "1"],
        "0.5..2.5": ["0.5", "1.5", "2.5"],
        "1..5 int": ["1", "3", "5"],
        "16..256  log   int": ["16", "63", "256"],
        "{16, 32, 64}": ["16", "32", "64"],
        "{ReLU,GELU}": ["ReLU", "GELU", "GELU"],
    }.items(),
)
def test_values_of_a_space(text, values):
    assert [read_space(text).at(point) for point in (0.0, 0.5, 1.0)] == values


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "1e-4": "cannot read the space '1e-4': write a..b",
        "1e-4..": "cannot read the space",
        "1..2 linear": "cannot read the space",
        "1..2 log log": "a word is given twice",
        "a..b": "the ends of a space must be numbers",
        "2..1": "must rise from a finite a to a finite b",
        "1..1": "must rise",
        "0..inf": "must rise from a finite",
        "nan..1": "must rise from a finite",
        "0..1 log": "a logarithmic space must be positive",
        "1..2.5 int": "must be whole",
        "{a}": "at least two",
        "{a, a}": "a choice is given twice",
        "{a, }": "at least two",
        "": "cannot read the space ''",
    }.items(),
)
def test_what_is_no_space_is_explained(text, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        read_space(text)
    assert message in str(error.value)


def combination(name, optimizer, **arguments):
    config = {"optimizer": {"class_path": optimizer, "init_args": arguments}, "data": {"class_path": "D"}}
    return Combination(name, {"optimizer": name}, ("--optimizer", name), config, ())


SGD = {"class_path": "torch.optim.SGD", "init_args": {}}
COMBINATIONS = [
    combination("SGD(lr=0.1)", "torch.optim.SGD", lr=0.1),
    combination("LAMB", "optim.LAMB", lr=1e-3),
    combination("COCOB", "optim.COCOB"),
    combination("SAM(base_optimizer=SGD)", "optim.SAM", base_optimizer=SGD),
]


def assigned(*tunes, of=COMBINATIONS):
    found = assign(of, [read_tune(words) for words in tunes])
    return {name: {option: space.text for option, space in spaces.items()} for name, spaces in found.items()}


def test_shipped_spaces_are_of_the_optimizer_and_of_its_base():
    found = assigned(["spaces"])
    assert found["SGD(lr=0.1)"] == {"optimizer.lr": shipped()["SGD"]["space"]["lr"]}
    assert found["COCOB"] == {}
    assert set(found["SAM(base_optimizer=SGD)"]) == {"optimizer.rho", "optimizer.base_optimizer.lr"}
    for entry in shipped().values():
        assert entry["source"]
        assert entry["space"] == "none" or all(map(read_space, entry["space"].values()))


def test_the_more_specific_space_counts():
    found = assigned(["spaces"], ["optimizer.lr", "1..2"], ["LAMB: optimizer.lr", "3..4", "log"], of=COMBINATIONS[:2])
    assert found == {"SGD(lr=0.1)": {"optimizer.lr": "1..2"}, "LAMB": {"optimizer.lr": "3..4 log"}}
    assert assigned(["optimizer.lr", "1..2"], ["COCOB:", "none"], of=COMBINATIONS[1:3])["COCOB"] == {}
    by_class = assigned(["spaces"], ["SGD: optimizer.momentum", "{0, 0.9}"])
    assert by_class["SGD(lr=0.1)"]["optimizer.momentum"] == "{0, 0.9}"


@pytest.mark.parametrize(
    ("tunes", "message"),
    [
        ([["LAMB: optimizer.lr", "1..2"]], 'SGD(lr=0.1): no --tune gives it a space: add one, or declare it'),
        ([["spaces"], ["Adam: optimizer.lr", "1..2"]], "--tune Adam: it is none of the values: SGD(lr=0.1); LAMB"),
        ([["spaces"], ["LAMB: none"], ["LAMB: optimizer.lr", "1..2"]], "cannot both have a space and be self-tuning"),
        ([["optimizer.lr"]], "--tune needs an option and its space"),
        ([["none"]], "--tune needs an option and its space"),
        ([[]], "--tune needs an option and its space"),
        ([["optimizer.lr", "2..1"]], "--tune optimizer.lr: a space must rise"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tunes, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        assigned(*tunes)
    assert message in str(error.value)


def test_an_optimizer_without_a_shipped_space_is_named():
    with pytest.raises(ValueError, match="no shipped space of Adadelta"):
        assigned(["spaces"], of=[combination("Adadelta", "torch.optim.Adadelta")])
    with pytest.raises(ValueError, match="needs SAM's base"):
        assigned(["spaces"], of=[combination("SAM", "optim.SAM", base_optimizer=None)])


def test_a_trial_is_a_function_of_the_seed_and_its_number():
    spaces = {"a": read_space("0..1"), "b": read_space("1e-4..1 log")}
    eight = [ours.trial_values(spaces, 3, trial) for trial in range(8)]
    assert [ours.trial_values(spaces, 3, trial) for trial in (5, 2)] == [eight[5], eight[2]]
    assert ours.trial_values(spaces, 4, 0) != eight[0]
    # One point in each eighth of every dimension: the net property of Sobol's points, which random ones do not have.
    assert sorted(int(8 * float(one["a"])) for one in eight) == list(range(8))
    assert sorted(int(8 * (math.log10(float(one["b"])) / 4 + 1)) for one in eight) == list(range(8))


def trials(*values):
    rows = [
        {"name": "LAMB", "trial": i, "values": {"optimizer.lr": lr}, "value": v} for i, (lr, v) in enumerate(values)
    ]
    return [row | ({"error": "diverged"} if row["value"] is None else {}) for row in rows]


def tuning(mode="max"):
    spaces = {"LAMB": {"optimizer.lr": read_space("1e-4..1e-1 log")}}
    return ours.Tuning(spaces, 4, "val/accuracy", mode, 0)


def test_the_best_finite_trial_is_chosen_and_the_first_of_equals():
    rows = trials(("0.001", 0.5), ("0.09", None), ("0.01", 0.7), ("0.02", 0.7))
    best = ours.choose(rows, tuning())
    assert (best["trial"], best["values"], best["edges"]) == (2, {"optimizer.lr": "0.01"}, {})
    assert ours.choose(rows, tuning("min"))["trial"] == 0
    assert ours.choose([], tuning()) is None
    with pytest.raises(ValueError, match="LAMB: each of 1 trials failed, the first: diverged; choose another space"):
        ours.choose(trials(("0.1", None)), tuning())


@pytest.mark.parametrize(("lr", "end"), [("0.09", "highest"), ("0.00011", "lowest"), ("0.01", None)])
def test_a_choice_at_an_end_of_its_space_warns(lr, end):
    best = ours.choose(trials((lr, 0.5)), tuning())
    lines = warnings(tuning().definition() | {"chosen": {"LAMB": best}})
    assert [line for line in lines if f"in the {end} 10% of 1e-4..1e-1 log" in line] == lines
    assert bool(lines) == (end is not None)


def test_sensitivity_has_median_and_range_of_each_part():
    made = parts(read_space("1e-6..1 log"), [1e-5, 1e-4, 1e-4, 0.1, 0.2, 0.3], [1.0, 3.0, 2.0, 9.0, 7.0, 8.0])
    assert made == [(1e-4, 2.0, 1.0, 3.0), (0.2, 8.0, 7.0, 9.0)]
    assert swept_option({"spaces": {"A": {"x.rho": "0..1", "x.lr": "0..1"}}}) == "lr"
    assert swept_option({"spaces": {"A": {"x.k": "{1, 2}", "x.rho": "0..1"}}}) == "rho"
    assert swept_option({"spaces": {"A": {"x.k": "{1, 2}"}, "B": {}}}) is None


def test_shipped_spaces_are_printed(capsys):
    compare.main(["--spaces"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in shipped())
