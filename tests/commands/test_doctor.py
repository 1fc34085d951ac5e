"""`diffuscope doctor`, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from webui.runtime.examination import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
Doctor = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def doctor(tmp_path: Path, free_port: Callable[[], int]) -> Doctor:
    """Runs the command with a home folder of its own and a model hub that is not there."""
    home = tmp_path / "somebody"
    home.mkdir()

    def run(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        hub = f"http://127.0.0.1:{free_port()}"
        return subprocess.run(
            [sys.executable, "-m", "webui", "doctor", "--data-dir", str(home / "data"), *flags],
            cwd=ROOT,
            env=os.environ | {"HOME": str(home), "HF_ENDPOINT": hub, "DIFFUSCOPE_PORT": str(free_port())} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_it_names_versions_memory_and_models_and_keeps_secrets(doctor: Doctor, emoji_suite: Path) -> None:
    secret = "hunter2-and-more"
    result = doctor("--json", HF_TOKEN=secret, DIFFUSCOPE_LOGIN_PASSWORD=secret)
    found = {entry["topic"]: entry for entry in json.loads(result.stdout)}
    facts = [entry["fact"] for entry in json.loads(result.stdout)]
    assert result.returncode == 0, "it works without the hub"
    assert "127.0.0.1" in found["hub"]["advice"]
    for package in PACKAGES:
        assert any(re.fullmatch(rf"{package} \d+\.\d+.*", fact) for fact in facts), package
    assert any(fact.startswith("emoji") and "MiB" in fact for fact in facts)
    assert "GiB" in found["memory"]["fact"]
    assert found["data_dir"]["fact"].startswith("~/data, ")
    for text in (result.stdout, result.stderr):
        assert secret not in text
        assert "somebody" not in text, "the home folder's name is a person's"


def test_it_says_in_thai_what_to_put_right(doctor: Doctor, tmp_path: Path) -> None:
    broken = tmp_path / "somebody" / "data" / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "model_index.json").write_text("{", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = doctor("--language", "th", DIFFUSCOPE_PORT=port)
    assert result.returncode == 1
    assert f"✗ ที่อยู่ของหน้าเว็บ: 127.0.0.1:{port}" in result.stdout
    assert "--port" in result.stdout
    assert "✗ โมเดล: broken" in result.stdout
    assert "✓ Python" in result.stdout
    assert "Traceback" not in result.stderr
