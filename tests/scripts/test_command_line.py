"""The command line that all scripts share."""

import pytest

from _common.cli import experiment, join, split


def first(some_number: int = 1, no_header: bool = False, some_text: str = "") -> tuple:
    """A function."""
    return some_number, no_header, some_text


def second(quiet: bool = False, other: int = 0) -> tuple:
    """Another function."""
    return quiet, other


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ([], (1, False, "")),
        (["--some-number", "3"], (3, False, "")),
        (["--some_number=3"], (3, False, "")),
        (["--no-header"], (1, True, "")),
        (["--no-header", "--some-number", "-4"], (-4, True, "")),
        (["--no-header", "false"], (1, False, "")),
        (["--no_header=true"], (1, True, "")),
        (["--some-text", "a-b-c"], (1, False, "a-b-c")),
        (["--some-text=a-b=c-d"], (1, False, "a-b=c-d")),
    ],
)
def test_hyphens_and_switches(words, result):
    several = experiment({"first": first, "second": second}, default="first")
    assert experiment(first)(words) == several(words) == several(["first", *words]) == result


def test_switches_of_a_subcommand():
    several = experiment({"first": first, "second": second}, default="first")
    assert several(["second", "--quiet", "--other", "2"]) == (True, 2)


def test_a_mistake_is_one_line(capsys):
    with pytest.raises(SystemExit):
        experiment(first)(["--some-number", "many"])
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error


def test_split_and_join_are_inverse():
    words = ["fit", "--save-every=5", "--values", "a", "-1", "--title=--x", "-c", "file"]
    leading, options = split(words)
    assert leading == ["fit"]
    assert [option.name for option in options] == ["save_every", "values", "title", "config"]
    assert join(options) == ["--save_every", "5", "--values", "a", "-1", "--title=--x", "--config", "file"]


def test_no_option_is_guessed_and_the_nearest_is_named(capsys):
    with pytest.raises(SystemExit):
        experiment(first)(["--some-num", "3"])
    assert "--some_num 3: did you mean --some_number?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        experiment({"first": first, "second": second}, default="first")(["secnd"])
    assert "unknown command 'secnd': the nearest are second" in capsys.readouterr().err


def test_an_error_of_the_code_names_its_line(capsys):
    def broken(number: int = 1) -> None:
        """Fail."""
        raise KeyError("x")

    with pytest.raises(SystemExit) as stop:
        experiment(broken)([])
    assert stop.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: KeyError: 'x' (")
    assert "test_command_line.py, line " in error


def test_ctrl_c_is_one_line(capsys):
    def slow(number: int = 1) -> None:
        """Take long."""
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        experiment(slow)([])
    assert (stop.value.code, capsys.readouterr().err) == (130, "interrupted\n")
