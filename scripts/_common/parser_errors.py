"""jsonargparse's messages of ten lines in one: the option, the value found, what is allowed, the reason."""

import re

_OPTIONS = {"LightningDataModule": "--data", "Callback": "--trainer.callbacks", "Logger": "--trainer.logger"}
"""The options whose values are objects of a class, which messages from their constructors do not name."""

_REASONS = (  # of which the last one that fits is the most detailed
    r"Problem with given class_path '([^']+)':\n\s+(?!Parser key|Option)([^\n]+)",
    r"()expects a function or a callable class: (?!Parser key|Option)([^\n]+?)(?:\.+ Got value: [^\n]*)?\n",
)
_NO_PATH = r"Expected a (?:path but (.+) either not accessible or invalid|dot import path string: (.+))"
_TYPES = (
    r"Expected a <class '(?!NoneType)(?:[\w]+\.)*(\w+)'>|"
    r"Expected a typing\.Literal\[([^\]]*)\]|Expected a (tuple with [^.]+)"
)


def shorten(text: str) -> str:
    """Return a message of the parser as one line.

    Example:
        >>> text = '''Parser key "save_every":
        ...   Expected a <class 'int'>. Got value: x'''
        >>> shorten(text)
        '--save_every: expected int, found x'
    """
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', text)))
    option = f"--{'.'.join(keys)}"
    if not keys:
        return _from_a_constructor(text)
    if "Unable to load config" in text:
        return f"{option} must hold options, found {_quoted(text)}"
    for part in (_about_functions, _about_names, _about_arguments, _about_classes, _about_types):
        if line := part(text, option, keys):
            return line
    inner = text[text.rindex('Parser key "') :]
    reasons = [line.strip(" -") for line in inner.splitlines()[1:] if line.strip()]
    rest = reasons[0] if reasons else inner.partition('":')[2].strip()
    return f"{option}: {rest or 'expected another value'}"


def _from_a_constructor(text: str) -> str:
    """Shorten a message about an object that could not be made of values of the right types."""
    kinds = re.findall(r"Subtypes: \[.*?<class '[\w.]+\.(\w+)'>|Subtypes: \[list\[[\w.]+\.(\w+)\]", text)
    if not kinds:
        return text
    option = _OPTIONS.get("".join(kinds[-1]), f"a {''.join(kinds[-1])}")
    inner = text[text.rindex("Subtypes: [") :]
    name = re.search(r"Given value: .*?class_path='(?:[\w]+\.)*(\w+)'", inner)
    reason = re.search(
        r"^ *- (?!Expected a |Not a valid|a dict |a class )(?:Problem with [^\n]+:\n *)?([^\n]+)", inner, re.M
    )
    return f"{option}{f' {name[1]}' if name else ''}: {reason[1] if reason else inner}"


def _about_functions(text: str, option: str, keys: list[str]) -> str | None:
    """Shorten a message about an option of a class that takes any function, and nothing else."""
    inner = text[text.rindex('Parser key "') :]
    if not re.search(r"Subtypes: \[collections\.abc\.Callable\[\.\.\., [^\n]*\], <class 'NoneType'>\]", inner):
        return None
    found = re.search(_REASONS[1], inner)
    reason = f": {found[2]}" if found and "but got" not in found[2] else ""
    return f"{option}: expected the import path of a function or a class, found {_value(inner)}{reason}"


def _about_names(text: str, option: str, keys: list[str]) -> str | None:
    """Shorten a message about a name that nothing has, or that of something else."""
    if other := re.search(r"does not correspond to a subclass of ([\w ,]+)", text):
        return f"{option} must be {_a(other[1])}, found {_value(text)}"
    if other := re.search(r"Expected '([^']+)' to be a subclass of (?:<class '(\w+)'>|Union\[(\w+))", text):
        return f"{option} must be {_a(other[2] or other[3])}, found {other[1]}"
    kind = _kind(text)
    if (path := re.search(_NO_PATH, text)) and kind != "Tensor":
        what = f"the name or import path of {_a(kind)}" if kind else "an import path"
        return f"{option}: expected {what}, found {path[1] or path[2]}"
    return None


def _about_arguments(text: str, option: str, keys: list[str]) -> str | None:
    """Shorten a message about arguments of a class: unknown, missing, or in the wrong place."""
    given = re.search(r"given class_path |Namespace\(class_path=", text)
    name = re.search(r"(?:given class_path |Namespace\(class_path=)'(?:[\w]+\.)*(\w+)'", text) if given else None
    of = f" {name[1]}" if name else ""
    unknown = re.search(r"Option '([^']+)' is not accepted", text)
    if unknown and unknown[1] not in keys:
        if unknown[1] == "class_path":
            found = text.rpartition("Given value: ")[2]
            return f"{option}: class_path stands beside other options, found {found}: put them under init_args"
        if re.search(rf"Given value: \[?\{{'{re.escape(unknown[1].split('.')[0])}': \{{", text):
            found = unknown[1].split(".")[0]
            return f"{option}: expected class_path and init_args, found {found!r}: write class_path: {found}"
        if name and re.search(r"class_path='?[\w.]*\b(Optimizer|LRScheduler|Module|Callback)'", text):
            return f"{option}.{unknown[1]} belongs to a class that is not chosen: add {option} NAME before it"
        return f"{option} has no option {unknown[1]!r}: see --help, or {option}.help{of or ' CLASS'}"
    if needed := re.search(r"following arguments are required: ([^\n]+)", text):
        missing = needed[1].split(". Got value")[0]
        return f"{option}{of} needs {missing}: add {option}.{missing.split(',')[0]} VALUE"
    return None


def _about_classes(text: str, option: str, keys: list[str]) -> str | None:
    """Shorten a message about something in place of a class, or a class that cannot be imported."""
    if len(keys) > 1:
        return None
    for pattern in _REASONS:
        if found := re.findall(pattern, text):
            path, reason = found[0]
            if "but got" in reason or "has no attribute 'keys'" in reason:
                return f"{option}: expected class_path and init_args (options by name), found {_value(text)}"
            named = path or (re.search(r"Namespace\(class_path='([^']+)'", text) or ("", ""))[1]
            return f"{option} {named}: {reason}".replace(f"{option} :", f"{option}:")
    if (kind := _kind(text)) and "Not a valid subclass of" in text:
        return f"{option}: expected the name or import path of {_a(kind)}, found {_value(text)}"
    return None


def _about_types(text: str, option: str, keys: list[str]) -> str | None:
    """Shorten a message about a value of another type, or that is none of those allowed."""
    inner = text[text.rindex('Parser key "') :]
    types = re.findall(_TYPES, inner)
    expected = list(dict.fromkeys(one or shape for one, _, shape in types if one or shape))
    if len(keys) > 1:  # what the outer option could be instead
        expected = [one for one in expected if one not in ("str", "Iterable", "bool")] or expected
    if literals := dict.fromkeys(value.strip() for _, values, _ in types if values for value in values.split(",")):
        expected.append(("one of " if len(literals) > 1 else "") + ", ".join(literals))
    return f"{option}: expected {' or '.join(expected)}, found {_value(inner)}" if expected else None


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _kind(text: str) -> str | None:
    found = re.search(r"Subtypes: \[.*?<class '[\w.]+\.(\w+)'>|Subtypes: \[list\[[\w.]+\.(\w+)\]", text)
    return (found[1] or found[2]) if found else None


def _quoted(text: str) -> str:
    found = re.search(r"Unable to load config (['\"].*['\"])", text)
    return found[1] if found else "another value"


def _value(text: str) -> str:
    """Return the value that was given."""
    nested = re.search(r"NestedArg\(key='[^']*', val=(.+?)\)$", text, flags=re.MULTILINE)
    found = re.search(
        r"Given value: (.+?)(?:\. Got value.*)?$|Got value: (.+?)(?:\. Got value.*)?$", text, re.MULTILINE
    )
    if nested and (found is None or found[1] is None or found[1].startswith("NestedArg")):
        return nested[1].strip("'") if found is None or found[2] is None else found[2]
    return (found[1] or found[2]) if found else "another one"
