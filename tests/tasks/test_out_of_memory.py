"""Memory that runs out at each stage of a picture: every rung of the ladder, the refusal, and what is left behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from tests.runtime.dummies import FakeHardware
from tests.tiny import save_tiny_clip, save_tiny_pipeline
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import LANGUAGES
from webui.runtime.entries import CLIP, TXT2IMG
from webui.runtime.jobs import JobContext
from webui.runtime.manager import ModelManager, Relief
from webui.runtime.placement import DEVICE_RESERVE_BYTES, Mode
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.txt2img import DrawnPictures, draw_pictures

REQUEST = GenerateRequest("a cat", model="tiny", sampler="Euler", steps=3, seed=7, batch_count=2, width=16, height=16)
GIB = 2**30
LADDER = tuple(relief.value for relief in Relief)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A machine with one accelerator, which is RAM in truth: room for everything, until a test says otherwise."""
    folder = tmp_path_factory.mktemp("ladder")
    save_tiny_pipeline(folder / "models" / "tiny")
    save_tiny_clip(folder / "models" / "tiny-clip")
    opened = open_studio(Settings(data_dir=folder, index_outputs=False))
    hardware = FakeHardware({"cuda:0": DEVICE_RESERVE_BYTES + GIB})
    hardware.torch_device = lambda _name: torch.device("cpu")  # type: ignore[method-assign]
    manager = ModelManager(opened.catalog.roots, 2**40, hardware=hardware)
    hardware.manager = manager
    yield replace(opened, manager=manager)
    manager.close()
    opened.close()


@pytest.fixture(autouse=True)
def empty(studio: Studio) -> Iterator[None]:
    yield
    studio.manager.unload_all_idle()


def key_of(studio: Studio, name: str, task: str = TXT2IMG) -> Any:
    return replace(studio.catalog.find(name, task).key(), dtype="float32")


def draw(studio: Studio) -> DrawnPictures:
    return draw_pictures(studio, REQUEST, JobContext("cuda:0", threading.Event(), lambda _event, _kept: None))


def pixels(drawn: DrawnPictures) -> list[np.ndarray]:
    found = []
    for picture in drawn.pictures:
        with Image.open(picture.path) as image:
            found.append(np.asarray(image))
    return found


@dataclass
class Refusing:
    """An allocator that refuses at a module's call number `at`, and then from the first on, `times` times in all."""

    at: int
    times: int
    calls: int = 0
    refused: int = 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls >= self.at and self.refused < self.times:
            self.refused, self.calls, self.at = self.refused + 1, 0, 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


STAGES: dict[str, tuple[Callable[[StableDiffusionPipeline], torch.nn.Module], int]] = {
    "the text encoder": (lambda pipe: pipe.text_encoder, 1),
    "a step in the middle": (lambda pipe: pipe.unet, 2),
    "the decoder": (lambda pipe: pipe.vae.decoder, 1),
    "the decoder, of the second picture": (lambda pipe: pipe.vae.decoder, 2),
}


EVERY_RUNG = range(1, len(LADDER) + 1)


@pytest.mark.parametrize(
    ("stage", "rungs"),
    [
        ("the text encoder", [len(LADDER)]),
        ("a step in the middle", EVERY_RUNG),
        ("the decoder", [len(LADDER)]),
        ("the decoder, of the second picture", [1, len(LADDER)]),
    ],
    ids=STAGES,
)
def test_each_rung_is_enough_for_what_it_is_enough_for(stage: str, rungs: Sequence[int], studio: Studio) -> None:
    """The whole ladder in the middle; elsewhere that each stage goes down it to its end."""
    module_of, at = STAGES[stage]
    expected = pixels(draw(studio))
    for times in rungs:
        with studio.manager.use(key_of(studio, "tiny-clip", CLIP)):
            pass  # an idle model, so that the first rung has something to give
        refusing = Refusing(at, times)
        with studio.manager.use(key_of(studio, "tiny")) as pipe:
            handle = module_of(pipe).register_forward_pre_hook(refusing)
        drawn = draw(studio)
        handle.remove()
        assert refusing.refused == times
        assert drawn.notices == LADDER[:times]
        assert [picture.seed for picture in drawn.pictures] == [7, 8]
        for ours, theirs in zip(pixels(drawn), expected, strict=True):
            assert abs(ours.astype(int) - theirs).max() <= 1, "slices round in another order"
        names = {status.key.name for status in studio.manager.status()}
        assert ("tiny-clip" in names) == (LADDER[0] not in drawn.notices)
        (left,) = [status for status in studio.manager.status() if status.key.name == "tiny"]
        assert (left.pins, left.saves_memory) == (0, False)
        assert (left.mode is Mode.TURNS) == (LADDER[2] in drawn.notices)
    again = draw(studio)
    assert again.notices == ()
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(pixels(again), expected, strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_beyond_the_last_rung_it_is_refused_with_the_numbers_and_nothing_is_held(stage: str, studio: Studio) -> None:
    module_of, at = STAGES[stage]
    refusing = Refusing(at, times=99)
    with studio.manager.use(key_of(studio, "tiny")) as pipe:
        handle = module_of(pipe).register_forward_pre_hook(refusing)
        held = [weakref.ref(part) for part in (pipe.text_encoder, pipe.unet, pipe.vae)]
        del pipe
    with pytest.raises(UserError, match="out_of_memory") as caught:
        draw(studio)
    assert refusing.refused == len(LADDER), "one try, and one more for each rung: there was no idle model to drop"
    assert {"model": "tiny", "device": "cuda:0"}.items() <= caught.value.values.items()
    for language in LANGUAGES:
        assert caught.value.values["free"] in studio.messages.error(language, caught.value)
    handle.remove()
    del caught, handle
    studio.manager.unload_all_idle()
    gc.collect()
    assert [reference() for reference in held] == [None, None, None], "memory returns to where it was"
    assert len(draw(studio).pictures) == 2


@pytest.mark.parametrize("part", [UNet2DConditionModel, AutoencoderKL])
def test_a_load_is_tried_once_more_and_then_refused_with_the_numbers(
    part: Any, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, refusals = part.from_pretrained, iter(range(99))

    def refuse(left: int) -> Callable[..., Any]:
        def load(*arguments: Any, **options: Any) -> Any:
            if next(refusals) < left:
                raise MemoryError
            return read(*arguments, **options)

        return load

    monkeypatch.setattr(part, "from_pretrained", refuse(1))
    assert len(draw(studio).pictures) == 2
    studio.manager.unload_all_idle()
    monkeypatch.setattr(part, "from_pretrained", refuse(99))
    with pytest.raises(UserError, match="not_enough_ram") as caught:
        draw(studio)
    assert caught.value.values["model"] == "tiny"
    assert str(caught.value.values["needed"]).endswith("MiB")
    assert studio.manager.status() == ()
    monkeypatch.setattr(part, "from_pretrained", read)
    assert len(draw(studio).pictures) == 2


def test_the_files_are_not_read_again_on_the_ladder(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    read = UNet2DConditionModel.from_pretrained

    def count(folder: Path, **options: Any) -> Any:
        loads.append(folder)
        return read(folder, **options)

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", count)
    with studio.manager.use(key_of(studio, "tiny")) as pipe:
        handle = pipe.unet.register_forward_pre_hook(Refusing(2, times=2))
    draw(studio)
    handle.remove()
    assert len(loads) == 1
