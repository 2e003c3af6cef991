"""The worked examples in README run as they stand there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(
    r"^```python\n# (\w+):[^\n]*\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def test_every_package_has_its_example():
    packages = {path.parent.name for path in README.parent.glob("*/py.typed")}
    assert {name for name, _ in EXAMPLES} == packages


@pytest.mark.parametrize("code", [code for _, code in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_example(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {})
