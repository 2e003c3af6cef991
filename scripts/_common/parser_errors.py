"""jsonargparse's messages of ten lines in one: the option, the value found, what is allowed, the reason."""

import re

_TYPES = r"Expected a <class '(?!NoneType)(?:[\w]+\.)*(\w+)'>|Expected a typing\.Literal\[([^\]]*)\]"


def shorten(text: str) -> str:
    """Return a message of the parser as one line.

    Example:
        >>> text = '''Parser key "save_every":
        ...   Expected a <class 'int'>. Got value: x'''
        >>> shorten(text)
        '--save_every: expected int, found x'
    """
    keys = re.findall(r'Parser key "([^"]+)"', text)
    if not keys:
        return text
    option = f"--{'.'.join(keys)}"
    given = re.search(r"(?:given class_path |Namespace\(class_path=)'([^']+)'", text)
    name = f" {given[1].rpartition('.')[2]}" if given else ""
    if unknown := re.search(r"Option '([^']+)' is not accepted", text):
        return f"{option} has no option {unknown[1]!r}: see --help, or {option}.help{name or ' CLASS'}"
    if needed := re.search(r"following arguments are required: ([^\n]+)", text):
        missing = needed[1].split(". Got value")[0]
        return f"{option}{name} needs {missing}: add {option}.{missing.split(',')[0]} VALUE"
    if other := re.search(r"does not correspond to a subclass of ([\w ,]+)", text):
        return f"{option} must be a {other[1]}, found {_value(text)}"
    if path := re.search(r"Expected a path but (.+) either not accessible or invalid", text):
        kind = re.search(r"Subtypes: \[.*?<class '[\w.]+\.(\w+)'>|Subtypes: \[list\[[\w.]+\.(\w+)\]", text)
        what = f"the name or import path of a {kind[1] or kind[2]}" if kind else "an import path"
        return f"{option}: expected {what}, found {path[1]}"
    inner = text[text.rindex('Parser key "') :]
    types = re.findall(_TYPES, inner)
    expected = list(dict.fromkeys(one for one, _ in types if one))
    if len(keys) > 1 and len(expected) > 1 and "str" in expected:  # a name in place of the whole, of the outer option
        expected.remove("str")
    if literals := dict.fromkeys(value.strip() for _, values in types if values for value in values.split(",")):
        expected.append(("one of " if len(literals) > 1 else "") + ", ".join(literals))
    if expected:
        return f"{option}: expected {' or '.join(expected)}, found {_value(inner)}"
    reasons = [line.strip(" -") for line in inner.splitlines()[1:] if line.strip()]
    rest = reasons[0] if reasons else inner.partition('":')[2].strip()
    return f"{option}: {rest or 'expected another value'}"


def _value(text: str) -> str:
    """Return the value that was given."""
    nested = re.search(r"NestedArg\(key='[^']*', val=(.+?)\)$", text, flags=re.MULTILINE)
    found = re.search(
        r"Given value: (.+?)(?:\. Got value.*)?$|Got value: (.+?)(?:\. Got value.*)?$", text, re.MULTILINE
    )
    if nested and (found is None or found[1] is None or found[1].startswith("NestedArg")):
        return nested[1].strip("'") if found is None or found[2] is None else found[2]
    return (found[1] or found[2]) if found else "another one"
