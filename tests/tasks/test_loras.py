"""LoRA through the txt2img task: real files in kohya's and diffusers' names, on a real checkpoint file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.tasks.drawing import PATIENCE, draw_one, studio
from tests.tiny_checkpoint import checkpoint_tensors, save_checkpoint, sdxl_tensors, tiny_sdxl, tiny_stable_diffusion
from webui.diffusion.generate import generate
from webui.diffusion.lora_tags import LoraUse, split_loras, with_lora
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.i18n import LANGUAGES
from webui.runtime.entries import TXT2IMG
from webui.store.infotext import parse_infotext
from webui.studio import Studio
from webui.tasks.inside import TraceRequest, record_run
from webui.tasks.latents import request_to_draw
from webui.tasks.txt2img import count_prompt_tokens

__all__ = ["studio"]

REQUEST = GenerateRequest("a cat", model="one", steps=2, seed=7, width=32, height=32)
RANK, ALPHA = 4, 2.0
LAYERS = {"unet": ("to_q", "to_v", "to_out.0", "proj_in"), "text_encoder": ("q_proj", "v_proj", "fc1")}
XL_LAYERS = {**LAYERS, "text_encoder_2": LAYERS["text_encoder"]}
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
KOHYA_XL = {
    "unet": "lora_unet_", "text_encoder": "lora_te1_text_model_", "text_encoder_2": "lora_te2_text_model_"
}  # fmt: skip


def layers_of(pipe: Any) -> Iterator[tuple[str, str, Any]]:
    for part, ends in (XL_LAYERS if hasattr(pipe, "text_encoder_2") else LAYERS).items():
        for name, module in getattr(pipe, part).named_modules():
            if name.endswith(ends):
                yield part, name.removeprefix("text_model."), module


def matrices(pipe: Any, seed: int) -> dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]:
    """A (rank, in) and B (out, rank) for every layer; a 1x1 convolution has two axes more."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for part, name, module in layers_of(pipe):
        rows, columns, *kernel = module.weight.shape
        down = 0.3 * torch.randn(RANK, columns, *kernel, generator=generator)
        up = 0.3 * torch.randn(rows, RANK, *kernel, generator=generator)
        found[part, name] = down, up
    return found


def save_kohya(file: Path, pipe: Any, seed: int) -> None:
    tensors = {}
    starts = KOHYA_XL if hasattr(pipe, "text_encoder_2") else KOHYA
    for (part, name), (down, up) in matrices(pipe, seed).items():
        layer = starts[part] + name.replace(".", "_")
        tensors |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
        tensors[f"{layer}.alpha"] = torch.tensor(ALPHA)
    save_file(tensors, file)


def save_diffusers(file: Path, pipe: Any, seed: int) -> None:
    tensors = {}
    for (part, name), (down, up) in matrices(pipe, seed).items():
        layer = f"{part}.{name}" if part == "unet" else f"{part}.text_model.{name}"
        tensors |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up * ALPHA / RANK}
    save_file(tensors, file)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of different widths of text, and LoRA for the first."""
    folder = tmp_path_factory.mktemp("data") / "models"
    pipe = tiny_stable_diffusion(1)
    save_checkpoint(folder / "one.safetensors", checkpoint_tensors(pipe, 1))
    (folder / "Lora").mkdir()
    wide_pipe = tiny_sdxl()
    save_checkpoint(folder / "big.safetensors", sdxl_tensors(wide_pipe))
    save_kohya(folder / "Lora" / "big-style.safetensors", wide_pipe, 1)
    save_diffusers(folder / "Lora" / "big-twin.safetensors", wide_pipe, 1)
    for variant, ending in {"loha": "hada_w1_a", "lokr": "lokr_w1", "dora": "dora_scale"}.items():
        layers = {f"lora_unet_x.{ending}": torch.ones(4, 4), "lora_unet_x.lora_down.weight": torch.ones(4, 4)}
        save_file(layers, folder / "Lora" / f"{variant}.safetensors")
    save_kohya(folder / "Lora" / "style.safetensors", pipe, 1)
    save_kohya(folder / "Lora" / "other.safetensors", pipe, 2)
    save_diffusers(folder / "Lora" / "twin.safetensors", pipe, 1)
    wide = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (torch.ones(4, 2048), 128)}
    strange = {"lora_unet_down_blocks_3_attentions_0_transformer_blocks_0_attn2_to_k": (torch.ones(4, 64), 64)}
    for name, layers in {"sdxl": wide, "strange": strange}.items():
        tensors = {f"{layer}.lora_down.weight": down for layer, (down, _) in layers.items()}
        tensors |= {f"{layer}.lora_up.weight": torch.ones(rows, 4) for layer, (_, rows) in layers.items()}
        save_file(tensors, folder / "Lora" / f"{name}.safetensors")
    (folder / "Lora" / "cut.safetensors").write_bytes((folder / "Lora" / "style.safetensors").read_bytes()[:-9])
    (folder / "Lora" / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    return folder


def draw(studio: Studio, prompt: str, model: str = "one") -> tuple[Any, str]:
    return draw_one(studio, replace(REQUEST, prompt=prompt, model=model))


def add_by_hand(pipe: Any, seed: int, weight: float) -> None:
    products = matrices(pipe, seed)
    for part, name, module in layers_of(pipe):
        down, up = products[part, name]
        kernel = module.weight.shape[2:]
        product = (up.flatten(1) @ down.flatten(1)).view(-1, down.shape[1], *kernel)
        module.weight.data += weight * ALPHA / RANK * product


def test_lora_of_sdxl_change_both_its_text_encoders(studio: Studio) -> None:
    """In kohya's names and in diffusers', against weights to which the products were added by hand."""
    before, _ = draw(studio, "a cat", "big")
    style, _ = draw(studio, "a cat <lora:big-style:0.8>", "big")
    twin, _ = draw(studio, "a cat <lora:big-twin:0.8>", "big")
    assert np.abs(style - before).max() > 20
    assert np.abs(style - twin).max() <= 1
    assert np.array_equal(draw(studio, "a cat", "big")[0], before)
    pipe = tiny_sdxl()
    add_by_hand(pipe, 1, 0.8)
    merged = generate(pipe, replace(REQUEST, guidance_scale=studio.catalog.find("big", TXT2IMG).guidance_scale))
    with studio.manager.use(studio.catalog.find("big", TXT2IMG).key()) as own:
        assert own.unet.dtype == torch.float32
    assert np.abs(style - np.asarray(merged.pictures[0].image)).max() <= 1


def test_lora_are_added_up_and_taken_off_exactly(studio: Studio) -> None:
    """Against weights to which the same products were added by hand; then the pixels are those of before."""
    before, _ = draw(studio, "a cat")
    both, infotext = draw(studio, "a cat <lora:style:0.8> <lora:other:-0.5>")
    after, _ = draw(studio, "a cat")
    assert np.array_equal(before, after)
    assert np.abs(both - before).max() > 20
    assert infotext.splitlines()[0] == "a cat <lora:style:0.8> <lora:other:-0.5>"

    with studio.manager.use(studio.catalog.find("one", TXT2IMG).key()) as own:
        dtype = own.unet.dtype
        assert not any("lora" in name for part in (own.unet, own.text_encoder) for name, _ in part.named_modules())
    pipe = tiny_stable_diffusion(1)
    add_by_hand(pipe, 1, 0.8)
    add_by_hand(pipe, 2, -0.5)
    pipe.unet.to(dtype), pipe.vae.to(dtype), pipe.text_encoder.to(dtype)
    merged = np.asarray(generate(pipe, REQUEST).pictures[0].image).astype(int)
    assert np.abs(both - merged).max() <= (1 if dtype == torch.float32 else 40)


def test_diffusers_names_and_weight_zero(studio: Studio) -> None:
    style, _ = draw(studio, "a cat <lora:style:1>")
    twin, _ = draw(studio, "a cat <lora:twin>")
    nothing, _ = draw(studio, "a cat <lora:style:0>")
    before, _ = draw(studio, "a cat")
    assert np.abs(style - twin).max() <= 1
    assert np.array_equal(nothing, before)


def test_a_saved_picture_is_drawn_again_and_recorded_with_its_lora(studio: Studio) -> None:
    pixels, infotext = draw(studio, "a cat <lora:style:0.8>, small")
    again = parse_infotext(infotext).over(GenerateRequest(""))
    assert again.prompt == "a cat, small <lora:style:0.8>"
    assert np.array_equal(draw(studio, again.prompt)[0], pixels)
    asked = TraceRequest(replace(REQUEST, prompt=again.prompt))
    job = studio.jobs.submit(lambda context: record_run(studio, asked, context), owner="ann", kind="trace")
    recorded = job.result(PATIENCE).trace
    assert np.array_equal(recorded.picture.astype(int), pixels)
    assert list(recorded.header.words) == ["a", "cat", "small"]
    assert recorded.header.request.loras == "<lora:style:0.8>"


REFUSED = {
    "a cat <lora:nothing:1>": "error.weights_no_such",
    "a cat <lora:style:much>": "error.lora_weight",
    "a cat <lora:style:nan>": "error.lora_weight",
    "a cat <lora:style:1:2>": "error.lora_weight",
    "a cat <lora:cut:1>": "error.model_file_broken",
    "a cat <lora:old:1>": "error.weights_pickle",
    "a cat <lora:sdxl:1>": "error.lora_other_width",
    "a cat <lora:big-style:1>": "error.lora_other_layers",
    "a cat <lora:loha:1>": "error.lora_variant",
    "a cat <lora:lokr:1>": "error.lora_variant",
    "a cat <lora:dora:1>": "error.lora_variant",
    "a cat <lora:style:1> <lora:strange:1>": "error.lora_other_layers",
    "a cat" + " <lora:style:0.1>" * 17: "error.lora_too_many",
}


def test_a_lora_that_cannot_be_used_is_one_sentence_and_leaves_nothing_behind(studio: Studio) -> None:
    before, _ = draw(studio, "a cat")
    taken = studio.manager.memory_status().models_bytes
    for prompt, key in REFUSED.items():
        with pytest.raises(UserError) as caught:
            draw(studio, prompt)
        assert caught.value.key == key
        for language in LANGUAGES:
            assert "\n" not in studio.messages.error(language, caught.value)
    assert np.array_equal(draw(studio, "a cat")[0], before)
    assert studio.manager.memory_status().models_bytes == taken


def test_tags_cost_no_tokens_and_are_refused_where_they_would_do_nothing(studio: Studio) -> None:
    plain = count_prompt_tokens(studio, "one", "a cat, small")
    assert count_prompt_tokens(studio, "one", "a cat <lora:style:0.8>, small") == plain
    with pytest.raises(UserError, match="lora_not_here"):
        request_to_draw(studio, "a cat <lora:style>", "one", 7, "DDIM", 2)


def test_tags_are_read_taken_out_and_replaced() -> None:
    assert split_loras("a <b> cat") == ("a <b> cat", ())
    assert split_loras("<lora:x>a cat <lora:y z:-0.5>, red") == ("a cat, red", (LoraUse("x"), LoraUse("y z", -0.5)))
    assert with_lora("a cat <lora:x:1> <lora:y:1>", LoraUse("x", 0.5)) == "a cat <lora:y:1> <lora:x:0.5>"
