"""A rehearsal: a well-known model at full size with random weights, built, loaded and run once, and measured.

It shows before a download of gigabytes whether a machine has the memory and the patience for a model.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.runtime import memory
from webui.runtime.entries import BART, CLIP, T5, TXT2IMG, VIT
from webui.runtime.fullsize import FullSizeModel, full_size_models
from webui.runtime.jobs import JobContext
from webui.runtime.placement import CPU, LocalHardware, local_device_type
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.vision.pictures import PictureFile

PROMPT: Final = "a cat on a blue background"
_FOLDER: Final = "rehearsal"
_SPARE_DISK: Final = 1.02


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage and the seconds it took; of a module `shape` is that of its output, and `calls` how often it ran."""

    name: str
    seconds: float
    shape: tuple[int, ...] = ()
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was measured. Bytes are of this process's resident memory, above what it had before the load.

    `stages` are "write" and "load", then the model's parts in the order of their first use, then "run": all of the one
    run, with what lies between the parts.
    """

    name: str
    title: str
    like: str
    parameters: int
    weights_bytes: int
    device: str
    dtype: str
    stages: tuple[Stage, ...]
    load_peak_bytes: int
    run_peak_bytes: int

    @property
    def run_peak_ratio(self) -> float:
        """The peak until the end of the run, in weights: what is above 1 was computed with."""
        return self.run_peak_bytes / self.weights_bytes


def find_full_size(name: str) -> FullSizeModel:
    """The configuration of that name; raises UserError that lists those there are."""
    models = full_size_models()
    if name not in models:
        raise UserError("error.rehearse_unknown", name=name[:100], known=", ".join(models))
    return models[name]


def rehearse(settings: Settings, name: str, on_stage: Callable[[Stage], None]) -> Rehearsal:
    """Build, load and run the configuration `name`; `on_stage` hears of each stage when it is over.

    Everything lies in a temporary folder that is removed whatever happens. Raises UserError when disk or memory do not
    suffice.
    """
    model = find_full_size(name)
    with tempfile.TemporaryDirectory(prefix="diffuscope-rehearsal-") as folder:
        return rehearse_in(Path(folder), settings, name, model, on_stage)


def rehearse_in(
    folder: Path, settings: Settings, name: str, model: FullSizeModel, on_stage: Callable[[Stage], None]
) -> Rehearsal:
    """`rehearse` with a folder and a configuration of the caller's."""
    _check_disk(folder, model)
    _check_memory(model)
    stages: list[Stage] = []

    def over(stage: Stage) -> None:
        stages.append(stage)
        on_stage(stage)

    own = {"models_dir": folder / "models", "data_dir": folder, "outputs_dir": folder / "outputs"}
    with closing(open_studio(settings.model_copy(update={**own, "index_outputs": False}))) as studio:
        entry_id = f"{_FOLDER}/{name}"
        over(_write(model, folder / "models" / entry_id))
        key = studio.catalog.find(entry_id, model.task).key()
        started = time.perf_counter()
        with memory.PeakMemory() as peak, studio.manager.use(key) as loaded:
            over(Stage("load", time.perf_counter() - started))
            load_peak = peak.highest - peak.before
            (status,) = studio.manager.status()
            started = time.perf_counter()
            with _watched(model, loaded) as seen:
                _run_once(studio, model.task, entry_id)
            seconds = time.perf_counter() - started
            for stage in seen():
                over(stage)
            over(Stage("run", seconds))
            run_peak = peak.highest - peak.before
    return Rehearsal(
        name=name,
        title=model.title,
        like=model.like,
        parameters=model.parameters,
        weights_bytes=status.size_bytes,
        device=status.device,
        dtype=status.key.dtype,
        stages=tuple(stages),
        load_peak_bytes=load_peak,
        run_peak_bytes=run_peak,
    )


def _check_disk(folder: Path, model: FullSizeModel) -> None:
    needed = int(model.parameters * 4 * _SPARE_DISK)
    free = shutil.disk_usage(folder).free
    if free < needed:
        sizes = {"needed": memory.format_bytes(needed), "free": memory.format_bytes(free)}
        raise UserError("error.rehearse_no_disk", folder=str(folder.parent), **sizes)


def _check_memory(model: FullSizeModel) -> None:
    """Refuse before gigabytes are written what could not be read again."""
    bytes_each = 4 if local_device_type(LocalHardware()) == CPU else 2
    needed, free = model.parameters * bytes_each, memory.available_ram_bytes()
    if free < needed:
        sizes = {"needed": memory.format_bytes(needed), "free": memory.format_bytes(free)}
        raise UserError("error.not_enough_ram", model=model.title, **sizes)


def _write(model: FullSizeModel, folder: Path) -> Stage:
    from webui.runtime.random_weights import write_full_size

    started = time.perf_counter()
    write_full_size(model, folder)
    return Stage("write", time.perf_counter() - started)


def _run_once(studio: Studio, task: str, model: str) -> None:
    """What the page does with such a model, once and small: one step, one picture, a few words."""
    context = JobContext("cpu", threading.Event(), lambda _event, _kept: None)
    if task == TXT2IMG:
        from webui.tasks.txt2img import draw_pictures

        draw_pictures(studio, GenerateRequest(PROMPT, model=model, steps=1, guidance_scale=1.0, seed=0), context)
    elif task == CLIP:
        from webui.clip.request import ScoreRequest
        from webui.tasks.clip import score_pictures

        score_pictures(studio, ScoreRequest((_picture(),), (PROMPT,), model), context)
    elif task == VIT:
        from webui.tasks.vision import classify_pictures
        from webui.vision.request import ClassifyRequest

        classify_pictures(studio, ClassifyRequest((_picture(),), model=model), context)
    else:
        from webui.prompts.request import prompt_request_from_values
        from webui.tasks.prompt import rewrite_prompt

        values = {"text": PROMPT, "family": task, "model": model, "candidates": 1, "beams": 1, "max_new_tokens": 4}
        what = {T5: "shorten", BART: "repair"}[task]
        rewrite_prompt(studio, prompt_request_from_values(what, values), context)


def _picture() -> PictureFile:
    from PIL import Image

    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "PNG")
    return PictureFile("gradient.png", buffer.getvalue())


def _parts_of(model: FullSizeModel, loaded: Any) -> dict[str, Any]:
    """The modules whose forward is called, by name: of a VAE only the decoder's is."""
    if model.task == TXT2IMG:
        return {name: loaded.vae.decoder if name == "vae" else getattr(loaded, name) for name in model.parts}
    whole = loaded.model
    if model.task == CLIP:
        return {"text_model": whole.text_model, "vision_model": whole.vision_model}
    if model.task == VIT:
        return {"model": whole}
    return {"encoder": whole.get_encoder(), "decoder": whole.get_decoder()}


@contextmanager
def _watched(model: FullSizeModel, loaded: Any) -> Iterator[Callable[[], list[Stage]]]:
    """Time the forward of each part; what is yielded gives the stages, in the order of the parts' first calls."""
    stages: dict[str, Stage] = {}
    began: dict[str, float] = {}
    handles: list[Any] = []

    def begin(name: str) -> Callable[..., None]:
        return lambda *_: began.__setitem__(name, time.perf_counter())

    def end(name: str) -> Callable[..., None]:
        def record(*call: Any) -> None:
            seconds = time.perf_counter() - began[name]
            before = stages.get(name, Stage(name, 0.0, calls=0))
            stages[name] = Stage(name, before.seconds + seconds, _shape_of(call[-1]), before.calls + 1)

        return record

    for name, module in _parts_of(model, loaded).items():
        handles.append(module.register_forward_pre_hook(begin(name)))
        handles.append(module.register_forward_hook(end(name)))
    try:
        yield lambda: list(stages.values())
    finally:
        for handle in handles:
            handle.remove()


def _shape_of(output: Any) -> tuple[int, ...]:
    """Of the first tensor in what a module gave back."""
    while not hasattr(output, "shape"):
        output = next(iter(output.values())) if hasattr(output, "values") else output[0]
    return tuple(output.shape)
