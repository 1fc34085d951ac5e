"""A running `diffuscope serve`, and a Chromium to look at it with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from playwright.sync_api import Browser, BrowserType

ROOT = Path(__file__).resolve().parents[2]
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
)
_START_SECONDS = 120


@dataclass(frozen=True)
class Served:
    """A running `diffuscope serve`: its address, and the folder where it saves pictures."""

    url: str
    outputs: Path
    process: subprocess.Popen[str]
    said: list[str]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def serve(
    data_dir: Path, models_dir: Path, port: int = 0, *flags: str, under: Sequence[str] = (), **environment: str
) -> Served:
    """Start the command, as an argument of `under` if that is given, and wait for the line that says where it is."""
    command = [sys.executable, "-m", "webui", "--data-dir", str(data_dir), "--models-dir", str(models_dir)]
    process = subprocess.Popen(
        [*under, *command, "serve", "--port", str(port), *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )
    said: list[str] = []
    assert process.stdout is not None
    url = _read_address(process.stdout, said)
    threading.Thread(target=said.extend, args=(process.stdout,), daemon=True).start()
    return Served(url, data_dir / "outputs", process, said)


def _read_address(lines: IO[str], said: list[str]) -> str:
    for line in lines:
        said.append(line)
        if match := re.search(r"http://(127\.0\.0\.1|localhost)(:\d+/)", line):
            return "http://127.0.0.1" + match[2]
    raise AssertionError("diffuscope serve ended: " + "".join(said))


def launch_chromium(chromium: BrowserType, *flags: str) -> Browser:
    """The Chromium that test.sh found, or Debian's."""
    executable = os.environ.get("DIFFUSCOPE_CHROMIUM", "/usr/bin/chromium")
    return chromium.launch(executable_path=executable, args=[*_FLAGS, *flags])
