"""The most memory a load takes, in weights: Stable Diffusion 1.4 and CLIP L/14 at full size, float32, on the CPU.

Each model has random weights and a process of its own. The peak is the resident size above what the process had before
the load; the aim is 1.15 weights. What lies in the file as it is computed with is mapped, and takes memory only when it
is first read: so every weight is read once before the second figure is taken, and 1 is the least that one can be.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

MODELS = ("clip-l14", "sd14")


def run() -> dict[str, object]:
    """The ratios of each model."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {name: pool.apply(_load, (name,)) for name in MODELS}


def _load(name: str) -> dict[str, object]:
    from webui.runtime import memory
    from webui.runtime.fullsize import full_size_models
    from webui.runtime.random_weights import write_full_size
    from webui.settings import Settings
    from webui.studio import open_studio

    model = full_size_models()[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_full_size(model, folder / "models" / name)
        studio = open_studio(Settings(data_dir=folder, models_dir=folder / "models"))
        try:
            key = studio.catalog.find(name, model.task).key("float32")
            with memory.PeakMemory() as peak, studio.manager.use(key, device="cpu") as loaded:
                (status,) = studio.manager.status()
                loading = peak.highest - peak.before
                modules = loaded.components.values() if model.pipeline else [loaded.model]
                for module in modules:
                    for weight in module.parameters() if hasattr(module, "parameters") else ():
                        weight.sum()
                read = peak.highest - peak.before
        finally:
            studio.close()
    return {
        "weights": memory.format_bytes(status.size_bytes),
        "peak_of_the_load_ratio": round(loading / status.size_bytes, 3),
        "peak_with_every_weight_read_ratio": round(read / status.size_bytes, 3),
        "aim": 1.15,
    }
