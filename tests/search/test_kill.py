"""kill -9 at any moment loses no acknowledged row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.search.killed import PHASES

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 20


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="needs fork and SIGKILL")
def test_no_acknowledged_row_is_lost(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.search.killed", str(tmp_path), str(ROUNDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(lines) == 3 * ROUNDS
    for line in lines:
        words = line.split()
        assert int(words[4]) >= int(words[2]) >= 0, line
    for phase in PHASES:
        hits = sum(line.startswith(phase) and line.endswith("inside") for line in lines)
        assert hits >= ROUNDS // 4, f"{phase}: only {hits} writers were killed while at it"
