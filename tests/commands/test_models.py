"""`diffuscope models` and its subcommands, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Models = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def models(tmp_path: Path, tiny_pipeline_folder: Path) -> Models:
    """Runs the command over a data folder with one model, and a Hugging Face cache of its own."""
    shutil.copytree(tiny_pipeline_folder, tmp_path / "data" / "models" / "tiny")

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "webui", "models", *arguments, "--data-dir", str(tmp_path / "data")],
            cwd=ROOT,
            env=os.environ | {"HF_HOME": str(tmp_path / "hf")} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def answer(run: subprocess.CompletedProcess[str]) -> Any:
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_what_is_here_comes_before_what_could_be(models: Models) -> None:
    listed = answer(models("list", "--json"))
    here = [entry["id"] for entry in listed if entry["downloaded"]]
    others = {entry["id"]: entry for entry in listed if not entry["downloaded"]}
    assert "tiny" in here
    assert [entry["downloaded"] for entry in listed] == [True] * len(here) + [False] * len(others)
    assert others["stabilityai/sd-turbo"]["commercial_use"] == "not_allowed"
    assert others["black-forest-labs/FLUX.1-schnell"]["loadable"] is False
    assert answer(models("--json")) == listed

    text = models("list", "--language", "en").stdout
    assert "no commercial use" in text
    assert "which this version cannot load yet" in text
    assert "ห้ามใช้เชิงพาณิชย์" in models("list", "--language", "th").stdout


def test_show_tells_all_that_is_known(models: Models) -> None:
    said = models("show", "google-t5/t5-base", "--language", "en").stdout
    assert "apache-2.0, commercial use allowed" in said
    assert "851 MiB" in said
    assert "models pull google-t5/t5-base" in said
    (local,) = answer(models("show", "tiny", "--json"))["local"]
    assert local["task"] == "txt2img"
    refused = models("show", "nobody/nothing", "--language", "en")
    assert refused.returncode == 2
    assert refused.stderr.startswith("There is no model nobody/nothing")
