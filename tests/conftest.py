"""What all tests share: no network but this machine, no telemetry, and a tiny Stable Diffusion with random weights."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.tiny import save_tiny_clip, save_tiny_pipeline

if TYPE_CHECKING:
    from webui.studio import Studio

ROOT = Path(__file__).resolve().parent.parent
EMOJI = ROOT / "models" / "emoji"

# Read when libraries are imported, and inherited by the processes that tests start.
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HOME=str(ROOT / ".pytest_cache" / "no-hub"),  # what its owner has downloaded is no part of a test
    HF_HUB_OFFLINE="1",
    LC_ALL="C.UTF-8",
    PYTHONUTF8="1",
)
for _name in [name for name in os.environ if name.startswith("DIFFUSCOPE_") and name != "DIFFUSCOPE_CHROMIUM"]:
    del os.environ[_name]
# A busy machine is no failure.
hypothesis.settings.register_profile("diffuscope", deadline=None)
hypothesis.settings.load_profile("diffuscope")
# Test processes share the cores: threads of the tiny models would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reaches for another machine fails its test: the project promises to work offline."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert _is_this_machine(address[0]), f"a test tried to connect to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def emoji_suite() -> Path:
    """The trained models that ship with the project."""
    assert (EMOJI / "suite.json").is_file(), "models/emoji has no trained weights"
    return EMOJI


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `StableDiffusionPipeline` folder with random weights, 16x16 px (VAE factor 2). Copy it to change it."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    save_tiny_pipeline(folder)
    return folder


@pytest.fixture
def studio(tmp_path: Path, tiny_pipeline_folder: Path) -> Iterator[Studio]:
    """A studio over a folder of its own, with one tiny model."""
    from webui.settings import Settings
    from webui.studio import open_studio

    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    opened = open_studio(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory: pytest.TempPathFactory, tiny_pipeline_folder: Path) -> Path:
    """A `CLIPModel` folder whose text tower is the tiny pipeline's text encoder. Copy it to change it."""
    folder = tmp_path_factory.mktemp("clip") / "clip"
    save_tiny_clip(folder, tiny_pipeline_folder)
    return folder


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port that was free a moment ago."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", "")
