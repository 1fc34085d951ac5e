"""From process start to the first answered GET of the page, five runs, and what the imports take.

Each run is a fresh `diffuscope serve` with an empty data folder; the disk is warm from the second run on. The CPU
seconds, stopping included, tell a slow start from a busy machine.
"""

from __future__ import annotations

import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

RUNS = 5
MODEL_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate")
ROOT = Path(__file__).resolve().parents[2]


def run() -> dict[str, object]:
    """Seconds until the page answered, seconds a module takes to import, and what the page had no need to import."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = [round(time_to_first_page(), 2) for _ in range(RUNS)]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    loaded = modules_loaded_by("webui.server")
    return {
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "cpu_seconds_a_run": round(cpu / RUNS, 2),
        "import_seconds": {
            module: round(import_seconds(module), 2) for module in ("webui.cli", "gradio", "webui.server")
        },
        "modules_imported": len(loaded),
        "model_libraries_imported": sorted(loaded & set(MODEL_LIBRARIES)),
    }


def time_to_first_page() -> float:
    """Seconds from starting `diffuscope serve` to the page's first answer."""
    with tempfile.TemporaryDirectory() as data_dir:
        port = free_port()
        command = [sys.executable, "-m", "webui", "serve", "--port", str(port), "--data-dir", data_dir]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            while not answers(f"http://127.0.0.1:{port}/"):
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with exit code {process.returncode}")
                time.sleep(0.01)
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def import_seconds(module: str) -> float:
    """Seconds that importing `module` takes in a fresh process, its start not counted."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(output_of(code))


def modules_loaded_by(module: str) -> set[str]:
    """Top-level packages in a fresh process after importing `module`."""
    code = f"import {module}, sys; print(*(name for name in sys.modules if '.' not in name))"
    return set(output_of(code).split())


def output_of(code: str) -> str:
    """What a fresh Python prints last."""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[-1]


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url) as response:  # noqa: S310 - our own server
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
