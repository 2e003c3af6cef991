"""Which options of each combination are tuned, over which spaces: `--tune`, and the spaces that are shipped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from _common.cli import Option
from _common.console import print_rows
from _compare.grid import Combination
from _compare.space import Space, read_space
from _compare.values import label

SHIPPED = Path(__file__).parents[1] / "recipes" / "spaces.yaml"
USAGE = '--tune needs an option and its space, as in --tune optimizer.lr "1e-4..1e-1 log", or the word spaces'


class Tune(NamedTuple):
    """One `--tune`."""

    value: str  # of an axis, whose combinations it is for; empty: for all
    option: str  # of train.py; "spaces" for the shipped ones, "none" for a method that tunes itself
    space: Space | None


def read_tune(words: Sequence[str]) -> Tune:
    """Read the words after `--tune`: `[VALUE:] OPTION SPACE`, `VALUE: none` or `spaces`.

    Example:
        >>> tune = read_tune(["LAMB: optimizer.lr", "1e-4..1e-1 log"])
        >>> tune.value, tune.option, tune.space.text
        ('LAMB', 'optimizer.lr', '1e-4..1e-1 log')
        >>> read_tune(["COCOB: none"])
        Tune(value='COCOB', option='none', space=None)
    """
    # A shell without quotes divides `COCOB: none`.
    joined = [f"{words[0]} {words[1]}", *words[2:]] if len(words) > 1 and words[0].endswith(":") else list(words)
    value, colon, option = joined[0].rpartition(": ") if joined else ("", "", "")
    option = option.lstrip("-").replace("-", "_")
    if len(joined) == 1 and option == "spaces" and not colon:
        return Tune("", option, None)
    if len(joined) == 1 and option == "none" and value.strip():
        return Tune(value.strip(), option, None)
    if len(joined) < 2 or not option or (colon and not value.strip()):
        raise ValueError(f"{USAGE}, found {' '.join(words)!r}")
    try:
        space = read_space(" ".join(joined[1:]))
    except ValueError as error:
        raise ValueError(f"--tune {joined[0]}: {error}") from error
    return Tune(value.strip(), option, space)


def shipped() -> dict[str, dict[str, Any]]:
    """Return the shipped spaces: optimizer -> `space` (option -> space, or none) and `source`."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(SHIPPED.read_text())
    return content


def assign(combinations: Sequence[Combination], tunes: Sequence[Tune]) -> dict[str, dict[str, Space]]:
    """Return combination -> option -> space; a combination without options tunes itself.

    A `--tune` for a value takes precedence over one for all, and both over the shipped spaces.

    Raises:
        ValueError: If a combination has no space and is not declared to tune itself, or a `--tune` is for none.
    """
    spaces: dict[str, dict[str, Space]] = {}
    used: set[str] = set()
    for one in combinations:
        own = [tune for tune in tunes if tune.value and _is_of(one, tune.value)]
        used |= {tune.value for tune in own}
        given = [tune for tune in tunes if not tune.value and tune.space is not None] + own
        tuned = {tune.option: tune.space for tune in given if tune.space is not None}
        alone = any(tune.option == "none" for tune in own)
        if alone and any(tune.space is not None for tune in own):
            raise ValueError(f"--tune {own[0].value}: it cannot both have a space and be self-tuning (none)")
        if alone:
            tuned = {}
        elif any(tune.option == "spaces" for tune in tunes):
            tuned = _shipped_for(one, given) | tuned
            alone = not tuned
        if not tuned and not alone:
            hint = f'--tune "{next(iter(one.settings.values()))}: none"'
            raise ValueError(f"{one.name}: no --tune gives it a space: add one, or declare it self-tuning by {hint}")
        spaces[one.name] = tuned
    unused = [tune.value for tune in tunes if tune.value and tune.value not in used]
    if unused:
        values = dict.fromkeys(value for one in combinations for value in one.settings.values())
        raise ValueError(f"--tune {unused[0]}: it is none of the values: {'; '.join(values)}")
    return spaces


def _is_of(one: Combination, value: str) -> bool:
    """Whether a combination has a value, by its name in the table, as it is written, or by its class alone."""
    for option, written in one.settings.items():
        name = label(option, written)
        if value in (written, name, name.partition("(")[0]):
            return True
    return False


def _shipped_for(one: Combination, given: Sequence[Tune]) -> dict[str, Space]:
    """Return the shipped space of a combination's optimizer and, of SAM, of its base."""
    optimizer = one.config["optimizer"]
    if optimizer is None:
        raise ValueError(f"{one.name}: --tune spaces needs an --optimizer, whose space it is")
    found: dict[str, Space] = {}
    prefix: str | None = "optimizer"
    while prefix is not None:
        name, arguments = _class_of(optimizer)
        entry = shipped().get(name)
        if entry is None and not given:
            raise ValueError(
                f"{one.name}: there is no shipped space of {name} (--spaces lists them): give one by "
                f'--tune "{name}: {prefix}.lr" "1e-4..1e-1 log"'
            )
        space = entry["space"] if entry is not None else {}
        found |= {f"{prefix}.{key}": read_space(str(text)) for key, text in space.items()} if space != "none" else {}
        optimizer = arguments.get("base_optimizer")
        if name == "SAM" and optimizer is None:
            raise ValueError(f"{one.name}: --tune spaces needs SAM's base, as in SAM(base_optimizer=SGD)")
        prefix = f"{prefix}.base_optimizer" if optimizer is not None else None
    return found


def _class_of(optimizer: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(optimizer, str):
        return optimizer.rpartition(".")[2], {}
    return str(optimizer["class_path"]).rpartition(".")[2], optimizer.get("init_args") or {}


def tuned_words(words: Sequence[Option], values: Mapping[str, str]) -> list[Option]:
    """Return a command line with other values of some options; a class comes before its options."""
    kept = [one for one in words if one.name not in values]
    chosen = [Option(name, (value,)) for name, value in values.items()]
    return sorted([*kept, *chosen], key=lambda one: (one.name != "config", one.name.count(".")))


def print_spaces() -> dict[str, Any]:
    """Print and return the shipped spaces."""
    rows = {}
    for name, entry in shipped().items():
        space = entry["space"]
        text = space if isinstance(space, str) else "; ".join(f"{option} {range_}" for option, range_ in space.items())
        rows[name] = {"space": text, "source": entry["source"]}
    print_rows("spaces of --tune spaces", rows, "optimizer")
    return rows
