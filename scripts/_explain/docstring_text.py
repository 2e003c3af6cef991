"""What is left of a docstring when everything that gives its library away is taken out: prose, in lower case.

Out go code (examples, literal blocks, mathematics), roles (with the "read more in the" before them) and all that stands
in backticks, signatures and the heads of parameters, the words over sections, the libraries' names, and names with a
dot, an underscore, a digit or a capital inside.
"""

import re
from functools import cache

LIBRARY_NAMES = r"""
    (?:py)?torch\w* | aten\w* | num-?py\w* | np\w* | sci-?py\w* | sp | sci-?kits?(?:-?learn)?\w* | sk-?learn\w* |
    scikit | learn | matplotlib\w* | pandas | plt | cupy | jax | onnx\w* | lightning | numfocus | caffe2?
"""
SECTIONS = r"""
    parameters? | other | args? | arguments? | keyword | kwargs | kwds | returns? | yields? | raises? | warns? |
    notes? | warnings? | see | also | references? | examples? | attributes? | methods? | shapes? | inputs? |
    outputs? | variables?
"""

_NAMES = re.compile(rf"^(?:{LIBRARY_NAMES})$", re.VERBOSE | re.IGNORECASE)
_SECTION_LINE = re.compile(rf"^\s*(?:(?:{SECTIONS})\s*)+:{{0,2}}\s*$", re.VERBOSE | re.IGNORECASE)
_SECTION_HEAD = re.compile(rf"^\s*(?:(?:{SECTIONS})\s*)+:{{1,2}}\s", re.VERBOSE | re.IGNORECASE)
_UNDERLINE = re.compile(r"^\s*([-=~^*\"'#+.])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\.\s")
_CODE_DIRECTIVE = re.compile(
    r"^\s*\.\.\s+(?:code|code-block|sourcecode|math|plot|image|figure|autosummary|automethod|deprecated|"
    r"versionadded|versionchanged|testcode|testsetup|include|literalinclude|currentmodule|index|_|\[)",
)
_MARKED = re.compile(r":[\w:+-]+:`[^`]*`|``[^`]*(?:`[^`]+)*``|`[^`]*`_{0,2}|\$[^$]*\$", re.DOTALL)
_NUMPY_HEAD = re.compile(r"^\s*[\w*, .\\]{1,60}\s:(?:\s.*)?$")
_GOOGLE_HEAD = re.compile(r"^(\s*)(?:[-*]\s+)?\*{0,2}\w+\s*(?:\([^)]*\))?\s*(?::|--)\s")
_CALL = re.compile(r"[\w.]+\s*\([^()]*(?:\([^()]*\)[^()]*)*\)(?:\s*->\s*[^\n]*)?")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_POINTER = re.compile(r"\b(?:read|see)(?:\s+more)?(?:\s+(?:in|also))?(?:\s+the)?\s+(?=:\w+:`)", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```")


def prose(docstring: str) -> str:
    """Return a docstring's prose.

    Example:
        >>> prose('''add(x, y, out=None) -> Tensor
        ...
        ... Adds :attr:`y` to each NumPy array, see also torch.sub and array_like things.
        ...
        ... Parameters
        ... ----------
        ... x : array_like
        ...     The first addend.
        ...
        ... Examples
        ... --------
        ... >>> add(1, 2)
        ... 3
        ... ''')
        'adds to each array see also and things the first addend'
    """
    return " ".join(line for line in prose_lines(docstring) if line)


def prose_lines(docstring: str) -> list[str]:
    """The same line by line; some are empty."""
    text = "\n".join(_lines_of_prose(docstring.expandtabs().splitlines()))
    lines = _CALL.sub(" ", _MARKED.sub(" ", _POINTER.sub(" ", text))).splitlines()
    return [" ".join(word for chunk in line.split() for word in _words(chunk)) for line in lines]


def _lines_of_prose(lines: list[str]) -> list[str]:
    """The lines without code blocks, sections' heads, parameters' heads and directives."""
    kept: list[str] = []
    code_indent: int | None = None  # lines indented by more than this are code
    in_session = in_fence = False
    for number, line in enumerate(lines):
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        if _FENCE.match(line):
            in_fence = not in_fence
            continue
        if not bare:
            in_session = False
            kept.append("")
            continue
        if code_indent is not None and indent <= code_indent:
            code_indent = None
        in_session = in_session or bare.startswith((">>>", "..."))
        if in_fence or in_session or code_indent is not None:
            continue
        if _CODE_DIRECTIVE.match(line):
            code_indent = indent
            continue
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if _UNDERLINE.match(line) or _UNDERLINE.match(below) or _SECTION_LINE.match(line) or bare.startswith(":"):
            code_indent = indent if bare.lower().startswith("example") and bare.endswith("::") else None
            continue
        if bare.endswith("::"):
            code_indent = indent
        kept.append(_without_head(line))
    return kept


def _without_head(line: str) -> str:
    """A line without what stands before its prose: a directive's or section's name, a parameter's name and type."""
    if _DIRECTIVE.match(line):
        return re.sub(r"^\s*\.\.\s+(?:[\w-]+::)?", "", line)
    if _NUMPY_HEAD.match(line):
        return ""
    line = _SECTION_HEAD.sub("", line)
    return _GOOGLE_HEAD.sub(r"\1", line)


@cache
def _words(chunk: str) -> tuple[str, ...]:
    """The words of what stands between two spaces; none if it is a name in a program, or a library's."""
    core = chunk.strip(".,;:!?()[]{}<>\"'*“”‘’|&=")
    if re.search(r"[_\d./\\=<>@#%^~]|[a-z][A-Z]|\w\(|\w\[|::|->", core):
        return ()
    words = [word.lower() for word in _WORD.findall(core)]
    return tuple(word for word in words if not any(_NAMES.match(part) for part in (word, *re.split(r"[-'’]", word))))
