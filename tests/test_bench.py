"""The benchmarks can be listed and chosen; what they measure is no test's business."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_are_listed_with_what_they_measure() -> None:
    names = json.loads(bench("--json").stdout)
    assert "startup" in names
    listing = bench().stdout.splitlines()
    assert [line.split(maxsplit=1)[0] for line in listing] == names
    assert all(len(line.split()) > 3 for line in listing)


def test_an_unknown_name_is_refused() -> None:
    result = bench("nonsense")
    assert result.returncode == 2
    assert "startup" in result.stderr


def test_each_has_a_run_that_takes_nothing() -> None:
    modules = [path for path in (ROOT / "tests" / "bench").glob("*.py") if not path.name.startswith("_")]
    assert len(modules) >= 3
    for path in modules:
        runs = [
            n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.FunctionDef) and n.name == "run"
        ]
        assert len(runs) == 1, path
        assert not runs[0].args.args, path
