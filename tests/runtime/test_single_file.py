"""Checkpoints in one file: written as the original code saves them, read through the manager, offline."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from tests.tiny_checkpoint import (
    Tensors,
    checkpoint_tensors,
    save_checkpoint,
    sdxl_tensors,
    tiny_sdxl,
    tiny_stable_diffusion,
)
from webui.diffusion.prompt import PromptTokenizers
from webui.errors import UserError
from webui.i18n import load_messages
from webui.runtime import single_file
from webui.runtime.catalog import Catalog
from webui.runtime.checkpoint_family import CheckpointFamily
from webui.runtime.entries import TXT2IMG
from webui.runtime.manager import ModelManager
from webui.runtime.sharing import tensors_of

PROMPT = "a photo of a cat"


XL = 10


@pytest.fixture(scope="module")
def stock() -> dict[int, Any]:
    """The pipelines as their maker had them: 2.x predicts v."""
    second = tiny_stable_diffusion(2, prediction_type="v_prediction")
    return {1: tiny_stable_diffusion(1), 2: second, XL: tiny_sdxl()}


@pytest.fixture(scope="module")
def tensors(stock: dict[int, Any]) -> dict[int, Tensors]:
    old = {version: checkpoint_tensors(stock[version], version) for version in (1, 2)}
    return {**old, XL: sdxl_tensors(stock[XL])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def manager(folder: Path) -> Iterator[ModelManager]:
    manager = ModelManager([folder])
    yield manager
    manager.close()


def draw(pipe: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    return pipe(PROMPT, num_inference_steps=2, height=32, width=32, generator=generator, output_type="np").images


def settings(scheduler: Any) -> dict[str, Any]:
    return {name: value for name, value in scheduler.config.items() if not name.startswith("_")}


def find(folder: Path, name: str) -> Any:
    return Catalog(folder, folder).find(name, TXT2IMG)


CLASSES = {
    1: (CheckpointFamily.SD1, StableDiffusionPipeline, ("unet", "vae", "text_encoder")),
    2: (CheckpointFamily.SD2, StableDiffusionPipeline, ("unet", "vae", "text_encoder")),
    XL: (CheckpointFamily.SDXL, StableDiffusionXLPipeline, ("unet", "vae", "text_encoder", "text_encoder_2")),
}


@pytest.mark.parametrize("version", CLASSES)
def test_a_checkpoint_draws_what_its_pipeline_draws(
    manager: ModelManager, folder: Path, stock: dict[int, Any], tensors: dict[int, Tensors], version: int
) -> None:
    """The family comes from the tensors: the file is called after another one."""
    family, pipeline_class, names = CLASSES[version]
    save_checkpoint(folder / "flux.safetensors", tensors[version])
    entry = find(folder, "flux")
    assert entry.family is family
    assert (entry.title, entry.size_multiple, entry.kind.name) == ("flux", 2, pipeline_class.__name__)
    with manager.use(entry.key("float32")) as pipe:
        assert type(pipe) is pipeline_class
        assert np.array_equal(draw(pipe), draw(stock[version]))
        assert not any(weight.requires_grad or weight.is_meta for weight in pipe.unet.parameters())
    read = [status.size_bytes for status in manager.status()]
    parts = [getattr(stock[version], name) for name in names]
    assert read == [sum(tensor.nbytes for tensor in tensors_of(parts))]


def test_sdxl_draws_from_one_file_what_it_draws_from_its_folder(
    manager: ModelManager, folder: Path, stock: dict[int, Any], tensors: dict[int, Tensors]
) -> None:
    """Of the folder only the U-Net stays in memory, whose size a file does not tell; the rest is the file's."""
    save_checkpoint(folder / "big.safetensors", tensors[XL])
    stock[XL].save_pretrained(folder / "whole")
    one, whole = find(folder, "big"), find(folder, "whole")
    sizes = (one.default_width, one.size_multiple, one.guidance_scale)
    assert sizes == (256, 2, whole.guidance_scale) == (256, whole.size_multiple, 5.0)
    with manager.use(one.key("float32")) as pipe:
        drawn, own = draw(pipe), dict(pipe.components)
    with manager.use(whole.key("float32")) as pipe:
        assert np.array_equal(draw(pipe), drawn)
        assert all(pipe.components[name] is own[name] for name in ("vae", "text_encoder", "text_encoder_2"))
        assert settings(pipe.scheduler) == settings(own["scheduler"])


def test_sdxls_descendants_say_how_they_were_trained(
    folder: Path, stock: dict[int, Any], tensors: dict[int, Tensors]
) -> None:
    """As ComfyUI reads them: by empty tensors. SDXL itself predicts noise."""
    file, unet = folder / "two.safetensors", stock[XL].unet
    save_checkpoint(file, tensors[XL])
    scheduler = single_file.build_scheduler_for(file, unet)
    assert settings(scheduler) == settings(stock[XL].scheduler)
    save_checkpoint(file, {**tensors[XL], "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    scheduler = single_file.build_scheduler_for(file, unet)
    assert (scheduler.config.prediction_type, scheduler.config.rescale_betas_zero_snr) == ("v_prediction", True)


def test_half_precision_files_and_old_names_are_read_too(
    manager: ModelManager, folder: Path, stock: dict[int, Any], tensors: dict[int, Tensors]
) -> None:
    """As Stable Diffusion 1 files of 2022 are: float16, no "text_model" in the names, a list of positions."""
    old = {
        name.replace("transformer.text_model.", "transformer."): tensor.half() for name, tensor in tensors[1].items()
    }
    old["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(77)[None]
    save_checkpoint(folder / "old.safetensors", old)
    with manager.use(find(folder, "old").key("float32")) as pipe:
        assert pipe.unet.dtype == torch.float32
        assert np.allclose(draw(pipe), draw(stock[1]), atol=0.02)


def test_what_the_unet_predicts_is_said_by_the_file_or_beside_it_or_found_out(
    folder: Path, stock: dict[int, Any], tensors: dict[int, Tensors]
) -> None:
    file = folder / "two.safetensors"
    unet = stock[2].unet
    for said, expected in {"epsilon": "epsilon", "v": "v_prediction"}.items():
        save_checkpoint(file, tensors[2], {"modelspec.prediction_type": said})
        assert single_file.prediction_type(file, unet) == expected
    save_checkpoint(file, tensors[2])
    assert single_file.prediction_type(file, unet) == "v_prediction"  # its answer to noise is not that noise
    file.with_suffix(".yaml").write_text("model:\n  params:\n    linear_end: 0.0120\n")
    assert single_file.prediction_type(file, unet) == "epsilon"
    file.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert single_file.prediction_type(file, unet) == "v_prediction"


def test_a_unet_that_gives_the_noise_back_predicts_noise() -> None:
    """A real U-Net whose first and last layers hand four channels through, and nothing else."""
    unet = tiny_stable_diffusion(2).unet
    with torch.no_grad():
        for weight in unet.parameters():
            weight.zero_()
        for channel in range(4):
            unet.conv_in.weight[channel, channel, 1, 1] = 1.0
            unet.conv_out.weight[channel, channel, 1, 1] = 1.0
        unet.conv_norm_out.weight.fill_(1.0)
        # The last residual block adds what comes from conv_in, the 128 channels below plus 64 that skipped.
        last = unet.up_blocks[1].resnets[1]
        for channel in range(4):
            last.conv_shortcut.weight[channel, 64 + channel, 0, 0] = 1.0
        assert single_file.predicts_noise(unet)
        unet.conv_out.weight.neg_()
        assert not single_file.predicts_noise(unet)


def test_tokens_are_clips_and_are_counted_without_a_folder(folder: Path, tensors: dict[int, Tensors]) -> None:
    save_checkpoint(folder / "one.safetensors", tensors[1])
    entry = find(folder, "one")
    count = PromptTokenizers().count(entry.source, entry.revision, f"{PROMPT} แมว")
    tokenizer = single_file.load_clip_tokenizer(open_clip=False)
    ids = tokenizer(f"{PROMPT} แมว").input_ids
    assert ids[:6] == [49406, 320, 1125, 539, 320, 2368]  # as openai/CLIP has them
    assert (ids[-1], len(tokenizer), count.used) == (49407, 49408, len(ids))
    second = single_file.load_clip_tokenizer(open_clip=True)
    assert (tokenizer.pad_token_id, second.pad_token_id) == (49407, 0)


def broken(change: Callable[[Tensors], object]) -> Callable[[Path, Tensors], object]:
    def write(file: Path, whole: Tensors) -> None:
        changed = dict(whole)
        change(changed)
        save_checkpoint(file, changed)

    return write


def truncated(file: Path, whole: Tensors) -> None:
    save_checkpoint(file, whole)
    with file.open("r+b") as written:
        written.truncate(file.stat().st_size - 100)


def claims_two_gigabytes(file: Path, whole: Tensors) -> None:
    save_checkpoint(file, whole)
    with file.open("r+b") as written:
        written.write(struct.pack("<Q", 2 * 2**30))


def linked_from_outside(file: Path, whole: Tensors) -> None:
    outside = file.parents[1] / "outside.safetensors"
    save_checkpoint(outside, whole)
    file.symlink_to(outside)


ATTENTION = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
PROJECTION = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
BAD_FILES: dict[str, tuple[Callable[[Path, Tensors], object], str]] = {
    "truncated": (truncated, "error.model_file_broken"),
    "header": (claims_two_gigabytes, "error.model_file_broken"),
    "link": (linked_from_outside, "error.model_path_outside"),
    "lacks-one": (broken(lambda own: own.pop(ATTENTION)), "error.weights_incomplete"),
    "lacks-key": (broken(lambda own: own.pop(PROJECTION)), "error.checkpoint_lacks"),
    "lacks-vae": (
        broken(lambda own: [own.pop(name) for name in list(own) if name.startswith("first_stage_model.")]),
        "error.checkpoint_lacks",
    ),
    "lacks-text": (
        broken(lambda own: [own.pop(name) for name in list(own) if name.startswith("cond_stage_model.")]),
        "error.checkpoint_unknown",
    ),
    "shape": (broken(lambda own: own.update({ATTENTION: torch.zeros(128, 3)})), "error.weights_shape"),
    "inpainting": (
        broken(lambda own: own.update({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(64, 9, 3, 3)})),
        "error.checkpoint_inpainting",
    ),
    "nan": (broken(lambda own: own.update({ATTENTION: torch.full((128, 64), torch.nan)})), "error.weights_not_finite"),
    "other": (broken(lambda own: [own.clear(), own.update(weight=torch.zeros(2, 3, 4))]), "error.weights_unknown"),
    "flux": (
        broken(lambda own: [own.clear(), own.update({"model.diffusion_model.double_blocks.0.w": torch.zeros(2, 2)})]),
        "error.checkpoint_family",
    ),
}


WIDE = "model.diffusion_model.input_blocks.0.0.weight"
BAD_XL: dict[str, tuple[Callable[[Tensors], object], str, str]] = {
    "refiner": (
        lambda own: [
            own.update({name.replace("embedders.1.", "embedders.0."): own.pop(name)})
            for name in [name for name in own if name.startswith("conditioner.embedders.1.")]
        ],
        "error.checkpoint_refiner",
        "refiner",
    ),
    "inpainting": (
        lambda own: own.update({WIDE: torch.zeros(64, 9, 3, 3)}),
        "error.checkpoint_inpainting",
        "9",
    ),
    "playground": (lambda own: own.update(edm_mean=torch.zeros(4)), "error.checkpoint_family", "Playground"),
    "second": (
        lambda own: own.pop("conditioner.embedders.1.model.text_projection"),
        "error.checkpoint_lacks",
        "text_projection",
    ),
    "sizes": (lambda own: own.pop("model.diffusion_model.label_emb.0.0.weight"), "error.checkpoint_lacks", "label_emb"),
}


def test_an_sdxl_file_that_cannot_be_drawn_with_is_called_what_it_is(folder: Path, tensors: dict[int, Tensors]) -> None:
    for name, (change, key, words) in BAD_XL.items():
        broken(change)(folder / f"{name}.safetensors", tensors[XL])
        with pytest.raises(UserError) as caught:
            find(folder, name)
        assert caught.value.key == key, name
        for language in ("en", "th"):
            assert words in load_messages().error(language, caught.value)


def test_what_is_wrong_with_a_file_is_one_sentence_and_leaves_the_loaded_model_alone(
    manager: ModelManager, folder: Path, tensors: dict[int, Tensors]
) -> None:
    save_checkpoint(folder / "good.safetensors", tensors[1])
    with manager.use(find(folder, "good").key("float32")) as pipe:
        before = draw(pipe)
    taken = manager.memory_status().models_bytes
    for name, (write, key) in BAD_FILES.items():
        file = folder / f"{name}.safetensors"
        write(file, tensors[1])
        with pytest.raises(UserError) as caught, manager.use(find(folder, name).key("float32")):
            pass
        assert caught.value.key == key, name
        for language in ("en", "th"):
            sentence = load_messages().error(language, caught.value)
            assert str(file) in sentence, sentence
            assert "\n" not in sentence
        assert manager.memory_status().models_bytes == taken
        file.unlink()
    with manager.use(find(folder, "good").key("float32")) as pipe:
        assert np.array_equal(draw(pipe), before)


@pytest.mark.parametrize("version", CLASSES)
def test_every_tensor_that_a_part_needs_is_missed(folder: Path, tensors: dict[int, Tensors], version: int) -> None:
    """Taken out one after the other, seen in the header alone; what is unused may be missing."""
    file = folder / "one.safetensors"
    unused = ("logit_scale",) if version == XL else ("text_projection", "logit_scale", f"resblocks.{2}.")
    for lost in list(tensors[version])[:: 61 if version == XL else 31]:
        header = {
            name: {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [0, 0]}
            for name, tensor in tensors[version].items()
            if name != lost
        }
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text)
        if any(name in lost for name in unused):
            continue
        with pytest.raises(UserError) as caught:
            [part.build_empty() for part in single_file.checkpoint_parts(file)]
        known = ("error.checkpoint_lacks", "error.weights_incomplete", "error.checkpoint_blocks")
        assert caught.value.key in known, lost
