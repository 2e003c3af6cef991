"""Write the tables of README.md and docs/ from the results in this folder, between markers.

    python results/tables.py            # writes the pages
    python results/tables.py --check    # names the pages that differ, with exit status 1

A marker names a file of this folder and a part of it, and the tables end at the next end marker:

    <!-- results: gpu-nvidia-h100-80gb-hbm3 step -->
    <!-- end of results -->

A study of scripts/compare.py has the parts `table`, `tuning` and `targets`. Of a benchmark's tables, which its
`--results` writes, `all` are shown, or one by its number, from 1 on. README's table, `headline rows`, is of several.
"""

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "benchmarks"), str(HERE)]

import benches
import headline
import studies
from _gpu.report import markdown

MARKED = re.compile(r"(<!-- results: (\S+) (\S+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


def tables(name: str, part: str, folder: Path) -> str:
    """Return the tables of a part of a results file, after a line that states what was measured where."""
    if name == "headline":
        return headline.markdown(folder)
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run benchmarks/gpu.py (or the study), or remove its marker")
    record = json.loads(path.read_text(encoding="utf-8"))
    if "study" in record:
        return f"{studies.head(record)}:\n\n{studies.markdown(part, record)}\n"
    if "benchmark" in record:
        return f"{benches.head(record)}\n\n{benches.markdown(part, record)}\n"
    content = record["parts"].get(part)
    if content is None:
        raise ValueError(f"{path} has no part {part}: run benchmarks/gpu.py --only {part}, or remove its marker")
    where = content["environment"]
    versions = f"torch {where['versions']['torch']}, Python {where['python']}"
    head = f"`python benchmarks/gpu.py --only {part}` on {where['device']}, {versions}, {where['date'][:10]}"
    return f"{head}, commit {where['commit']}:\n\n{markdown(part, content)}\n"


def filled(page: str, folder: Path) -> str:
    """Return a page with the tables between its markers."""
    return MARKED.sub(lambda found: f"{found[1]}{tables(found[2], found[3], folder)}{found[5]}", page)


def main(words: list[str] | None = None, root: Path = HERE.parent) -> int:
    """Run the command line `words` (the process's own by default); return the exit status."""
    parser = argparse.ArgumentParser(prog="results/tables.py", description="Write the tables from the results.")
    parser.add_argument("--check", action="store_true", help="Change nothing; fail if a page differs.")
    check = parser.parse_args(words).check
    status = 0
    for path in [*sorted(root.glob("README*.md")), *sorted((root / "docs").glob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        try:
            new = filled(page, root / "results")
        except (FileNotFoundError, ValueError) as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if new != page and check:
            print(f"{path.name} differs from the results: run python results/tables.py", file=sys.stderr)
            status = 1
        elif new != page:
            path.write_text(new, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
