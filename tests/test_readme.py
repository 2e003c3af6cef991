"""README's examples run as they are printed, and its names are exported by the packages that it names."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
CODE = re.compile(r"^```python\n# (\w+):[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = {
    f"{page.stem}-{package}": (package, code)
    for page in PAGES
    for package, code in CODE.findall(page.read_text(encoding="utf-8"))
}
NAMES = [
    (package, name)
    for package, names in re.findall(r"^\| `([\w.]+)` \|[^|]+\|([^|]+)\|$", PAGES[0].read_text("utf-8"), re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
]


def packages() -> set[str]:
    return {path.parent.name for path in ROOT.glob("*/py.typed")}


def test_every_package_has_its_example():
    assert {package for package, _ in EXAMPLES.values()} == packages()


@pytest.mark.parametrize("code", [code for _, code in EXAMPLES.values()], ids=list(EXAMPLES))
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
