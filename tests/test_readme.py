"""README's examples run as they are printed, and its names are exported by the packages that it names."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
CODE = re.compile(r"^ *```(?:python|py|pycon)\b[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# Those of docs/adding/ are files of a repository: test_adding.py puts them there.
EXAMPLES = {
    f"{page.stem}-{place}": code
    for page in PAGES
    if page.parent.name != "adding"
    for place, code in enumerate(CODE.findall(page.read_text(encoding="utf-8")))
}
NAMES = [
    (package, name)
    for package, names in re.findall(r"^\| `([\w.]+)` \|[^|]+\|([^|]+)\|$", PAGES[0].read_text("utf-8"), re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
]


def packages() -> set[str]:
    return {path.parent.name for path in ROOT.glob("*/py.typed")}


def test_every_package_has_its_example():
    assert {code[2:].partition(":")[0] for code in EXAMPLES.values() if code.startswith("# ")} == packages()


@pytest.mark.parametrize("code", EXAMPLES.values(), ids=EXAMPLES)
def test_example(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def test_the_table_lists_every_package():
    assert {package.split(".")[0] for package, _ in NAMES} == packages()


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_name_of_the_table_is_exported(package, name):
    assert hasattr(importlib.import_module(package), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
