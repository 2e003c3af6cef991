"""The pages of the site that are made: the first one, those of files outside docs/, and one for each public name."""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
TEXTS = {"README.md": "index.md", "README.ja.md": "index.ja.md", "CHANGELOG.md": "changelog.md"}
TEXTS["CONTRIBUTING.md"] = "contributing.md"
# The packages of README's table, in its order.
PACKAGES = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def public_names(package: str) -> list[str]:
    """Return the names that a package exports: `from .file import Name as Name`."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    names = [
        f"{package}.{node.module or ''}.{alias.name}".replace("..", ".")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
        if alias.asname == alias.name
    ]
    return sorted(set(names) - set(PACKAGES), key=lambda name: name.rpartition(".")[2].lower())


def page_of(package: str, name: str) -> str:
    """Return the path of a name's page."""
    return f"api/{package}/{name.rpartition('.')[2]}.md"


def on_config(config: Any) -> Any:
    """Add the made pages to the menu."""
    api = [{package: [page_of(package, name) for name in public_names(package)]} for package in PACKAGES]
    config.nav = [*config.nav, {"Names": api}, {"Contributing": "contributing.md"}, {"Changelog": "changelog.md"}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Make the pages."""
    for source, page in TEXTS.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\]\(docs/", "](", text)))
    for example in sorted((ROOT / "examples").glob("*.py")):
        text = f"# {example.stem}\n\n```python\n{example.read_text(encoding='utf-8')}```\n"
        files.append(File.generated(config, f"examples/{example.stem}.md", content=text))
    for package in PACKAGES:
        for name in public_names(package):
            title = name.rpartition(".")[2]
            page = f"---\ntitle: {title}\n---\n\n`from {package} import {title}`\n\n::: {name}\n"
            files.append(File.generated(config, page_of(package, name), content=page))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links out of docs/ to the pages made from those files."""
    markdown = re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](examples/\1.md)", markdown)
    for source, made in TEXTS.items():
        markdown = re.sub(rf"\]\((\.\./)?{re.escape(source)}", f"]({made}", markdown)
    return markdown
