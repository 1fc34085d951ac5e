"""What `diffuscope doctor` looks at: this machine, as one screen to paste into a bug report, with no secrets in it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from webui import __version__
from webui.errors import UserError
from webui.runtime import memory
from webui.runtime.catalog import open_catalog
from webui.settings import Settings

PACKAGES: Final = (
    "gradio", "torch", "diffusers", "transformers", "accelerate", "pillow", "tokenizers", "safetensors", "numpy",
    "lancedb", "huggingface-hub",
)  # fmt: skip
_HUB: Final = "https://huggingface.co"
_HUB_SECONDS: Final = 3.0
_LITTLE_DISK: Final = 2 * memory.GIB
_OLDEST_PYTHON: Final = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `topic` is a message key, `fact` is the same in every language.

    `problem` says what to put right, `note` what is missing that most can do without; None when all is well.
    """

    topic: str
    fact: str
    problem: UserError | None = None
    note: UserError | None = None


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings in order; imports torch for the devices, and tries one connection to the model hub."""
    yield Finding("doctor.diffuscope", f"{__version__}, {without_home(Path(__file__).parents[1])}")
    yield _python()
    yield Finding("doctor.system", f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} CPUs")
    yield from (_package(name) for name in PACKAGES)
    yield from _devices()
    total, available = memory.total_ram_bytes(), memory.available_ram_bytes()
    budget = settings.memory_budget_gb
    limit = memory.default_ram_budget() if budget is None else int(budget * memory.GIB)
    sizes = map(memory.format_bytes, (available, total, limit))
    yield Finding("doctor.memory", "{} / {}, {}".format(*sizes))
    yield _folder("doctor.data_dir", settings.data_dir)
    yield _folder("doctor.outputs_dir", settings.outputs_dir)
    yield from _models(settings)
    yield _port(settings)
    yield _hub()
    yield _browser()


def without_home(path: Path) -> str:
    """The path with "~" for the home folder, whose name is often a person's."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)


def _python() -> Finding:
    fact = f"{platform.python_version()} ({platform.python_implementation()}), {without_home(Path(sys.executable))}"
    old = sys.version_info[:2] < _OLDEST_PYTHON
    oldest = ".".join(map(str, _OLDEST_PYTHON))
    return Finding("doctor.python", fact, UserError("doctor.problem.python", oldest=oldest) if old else None)


def _package(name: str) -> Finding:
    try:
        return Finding("doctor.package", f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding("doctor.package", name, UserError("doctor.problem.package", name=name))


def _devices() -> Iterator[Finding]:
    """The processor and every accelerator that torch sees."""
    import torch

    from webui.runtime.placement import LocalHardware, local_device_type, local_dtype

    hardware = LocalHardware()
    dtype = local_dtype(local_device_type(hardware))
    for name in hardware.accelerators():
        free = memory.format_bytes(hardware.free_bytes()[name])
        title = torch.cuda.get_device_name(name) if name.startswith("cuda") else name
        yield Finding("doctor.device", f"{name}: {title}, {free}, {dtype}")
    if not hardware.accelerators():
        yield Finding("doctor.device", f"cpu: {torch.get_num_threads()} threads, {dtype}")


def _folder(topic: str, folder: Path) -> Finding:
    """Free space where the folder is or would be made, and whether it can be written."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    fact = f"{without_home(folder)}, {memory.format_bytes(free)}"
    if not os.access(there, os.W_OK):
        return Finding(topic, fact, UserError("doctor.problem.folder", folder=without_home(folder)))
    if free < _LITTLE_DISK:
        return Finding(topic, fact, UserError("doctor.problem.disk", folder=without_home(folder)))
    return Finding(topic, fact)


def _models(settings: Settings) -> Iterator[Finding]:
    for entry in open_catalog(settings).entries(wait=True):
        size = memory.format_bytes(entry.size_bytes or 0)
        yield Finding("doctor.model", f"{entry.id} ({entry.task}), {size}", entry.problem)


def _port(settings: Settings) -> Finding:
    """Whether the page could be served now."""
    fact = f"{settings.host}:{settings.port}"
    try:
        socket.create_server((settings.host.strip("[]"), settings.port)).close()
    except OSError:
        return Finding("doctor.port", fact, UserError("error.port_taken", host=settings.host, port=settings.port))
    return Finding("doctor.port", fact)


def _hub() -> Finding:
    """Whether the hub that models are downloaded from answers; everything else works without it."""
    address = os.environ.get("HF_ENDPOINT") or _HUB
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((host, port), timeout=_HUB_SECONDS).close()
    except (OSError, ValueError):
        return Finding("doctor.hub", host, note=UserError("doctor.problem.hub", host=host))
    return Finding("doctor.hub", host)


def _browser() -> Finding:
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return Finding("doctor.browser", "-", note=UserError("doctor.problem.browser"))
    return Finding("doctor.browser", Path(str(getattr(browser, "name", type(browser).__name__))).name)
