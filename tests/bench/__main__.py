"""Runs a benchmark: `python -m tests.bench NAME [--json]`; without a name, lists what there is.

A benchmark is a module beside this file: its docstring says what it measures, and `run()` returns the figures.
Benchmarks are never tests: their figures depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark that `arguments` name and print its figures."""
    names = benchmarks()
    listing = "\n".join(f"  {name:<12} {summary}" for name, summary in names.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=f"Benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=list(names), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args(arguments)
    if parsed.name is None:
        print(json.dumps(list(names)) if parsed.json else listing)
        return 0
    figures: dict[str, object] = importlib.import_module(f"tests.bench.{parsed.name}").run()
    if parsed.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")
    return 0


def benchmarks() -> dict[str, str]:
    """Names and first docstring lines of the benchmarks; none of them is imported for that."""
    modules = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_"))
    return {path.stem: first_line(path) for path in modules}


def first_line(path: Path) -> str:
    """The first line of the module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
