"""`diffuscope models` and its subcommands, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.hub_server import serve_hub
from webui.runtime.hub_cache import cached_models

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
    assert others["black-forest-labs/FLUX.1-schnell"]["loadable"] is True
    assert others["PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"]["loadable"] is True
    assert answer(models("--json")) == listed

    text = models("list", "--language", "en").stdout
    assert "no commercial use" in text
    assert "which this version cannot load yet" not in text
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


def test_a_model_is_pulled_shown_and_removed(models: Models, tmp_path: Path, tiny_clip_folder: Path) -> None:
    cache = tmp_path / "hf" / "hub"
    with serve_hub() as hub:
        hub.put("maker/clip", tiny_clip_folder, pytorch_model__bin=b"pickle")
        network = hub.environment(cache)
        planned = models("pull", "maker/clip", "--dry-run", "--language", "en", **network)
        assert planned.returncode == 0, planned.stderr
        assert "still to download" in planned.stderr
        assert "model.safetensors" in planned.stdout
        assert "pytorch_model.bin" not in planned.stdout
        assert "maker/clip" not in models("list").stdout, "looked at, not downloaded"
        pulled = models("pull", "maker/clip", **network)
        assert pulled.returncode == 0, pulled.stderr
        assert pulled.stdout.startswith("maker/clip  [clip]")
        refused = models("pull", "maker/nothing", "--language", "th", **network)
        assert refused.returncode == 2
        assert "ไม่มีโมเดลสาธารณะชื่อ maker/nothing" in refused.stderr
    assert answer(models("show", "maker/clip", "--json"))["local"][0]["problem"] is None
    kept = models("rm", "maker/clip", "--language", "en")
    assert kept.returncode == 130, "nobody said yes"
    assert (cache / "models--maker--clip").is_dir()
    assert models("rm", "maker/clip", "--yes").returncode == 0
    assert not (cache / "models--maker--clip").exists()


def test_a_killed_pull_goes_on(models: Models, tmp_path: Path, tiny_clip_folder: Path) -> None:
    cache = tmp_path / "hf" / "hub"
    with serve_hub() as hub:
        hub.put("maker/clip", tiny_clip_folder)
        environment = os.environ | hub.environment(cache)
        hub.faults.pause = 0.25
        command = [sys.executable, "-m", "webui", "models", "pull", "maker/clip", "--data-dir", str(tmp_path / "data")]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        while not any(each.partial_bytes for each in cached_models(cache)):
            assert process.poll() is None
            time.sleep(0.02)
        (worker,) = psutil.Process(process.pid).children()
        process.kill()
        process.wait(60)
        worker.wait(60)  # it ends with its parent
        listed = {entry["id"]: entry for entry in answer(models("list", "--json", "--language", "en"))}
        assert "goes on from here" in listed["maker/clip"]["problem"]
        hub.faults.pause = 0.0
        assert models("pull", "maker/clip", **hub.environment(cache)).returncode == 0
        asked = hub.file_requests("model.safetensors")
        assert asked[-1].startswith("bytes=")


def test_what_ships_with_the_project_stays(models: Models, emoji_suite: Path, tmp_path: Path) -> None:
    refused = models("rm", "emoji", "--yes", "--language", "en")
    assert refused.returncode == 2
    assert refused.stderr.startswith("emoji ships with the project")
    assert (emoji_suite / "suite.json").is_file()
    assert models("rm", "tiny", "--yes").returncode == 0
    assert not (tmp_path / "data" / "models" / "tiny").exists()
