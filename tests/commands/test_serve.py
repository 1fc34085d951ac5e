"""`diffuscope password` at a terminal of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from webui.security.logins import Logins, read_auth_file

ROOT = Path(__file__).resolve().parents[2]


def test_a_password_is_asked_twice_never_shown_and_printed_as_a_hash(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "webui", "password", "ann"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    os.close(theirs)
    shown = ""
    for typed in ("ann's own words\n", "something else\n", "ann's own words\n", "ann's own words\n"):
        asked = os.read(ours, 4096).decode()
        while not asked.rstrip("\r\n").endswith(": "):
            asked += os.read(ours, 4096).decode()
        shown += asked
        os.write(ours, typed.encode())
    printed, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert "own words" not in shown + printed
    (tmp_path / "logins").write_text(printed, encoding="utf-8")
    logins = Logins(read_auth_file(tmp_path / "logins"))
    assert logins.names == ("ann",)
    assert logins.check("ann", "ann's own words", "127.0.0.1")
    assert not logins.check("ann", "something else", "127.0.0.1")
