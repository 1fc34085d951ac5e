"""Fifty switches between two models in a budget for one: seconds a switch, and what memory is left over."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import psutil

from tests.tiny import save_tiny_pipeline
from webui.runtime.entries import TXT2IMG, ModelKey
from webui.runtime.manager import ModelManager

SWITCHES = 50
WARM_UP = 10
EMOJI = Path(__file__).resolve().parents[2] / "models" / "emoji"


def run() -> dict[str, object]:
    """Switch between a model and its copy; the emoji pipeline where it is trained, a tiny random one otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        source = next((index.parent for index in EMOJI.rglob("model_index.json")), None)
        if source is None:
            save_tiny_pipeline(first)
        else:
            shutil.copytree(source, first)
        shutil.copytree(first, second)
        return {"model": "emoji" if source else "tiny", **_switch(first, second)}


def _switch(first: Path, second: Path) -> dict[str, object]:
    manager, process = ModelManager([first.parent], ram_budget_bytes=1), psutil.Process()
    alive: list[weakref.ref[Any]] = []
    resident: list[int] = []
    started = 0.0
    for number in range(SWITCHES + WARM_UP):
        if number == WARM_UP:
            started = time.perf_counter()
        with manager.use(ModelKey(TXT2IMG, str((first, second)[number % 2]), "1")) as pipe:
            alive += [weakref.ref(part) for part in (pipe, pipe.unet, pipe.vae, pipe.text_encoder)]
            size = manager.status()[-1].size_bytes
        del pipe
        resident.append(process.memory_info().rss)
    seconds = time.perf_counter() - started
    manager.close()
    gc.collect()
    return {
        "switches": SWITCHES,
        "seconds_per_switch": round(seconds / SWITCHES, 3),
        "model_mib": round(size / 2**20, 1),
        "resident_mib_after_warm_up": round(resident[WARM_UP - 1] / 2**20, 1),
        "resident_mib_at_end": round(resident[-1] / 2**20, 1),
        "resident_mib_highest": round(max(resident) / 2**20, 1),
        "objects_left_alive": sum(ref() is not None for ref in alive),
    }
