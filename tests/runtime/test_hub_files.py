"""Which files a download takes of a repository."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.errors import UserError
from webui.runtime.entries import CLIP, TXT2IMG
from webui.runtime.hub_files import HubFile, choose_files, task_in

PIPELINE = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
}
CONFIGS = [
    "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "tokenizer/merges.txt",
    "tokenizer/vocab.json", "unet/config.json", "vae/config.json",
]  # fmt: skip
UNWANTED = [
    ".gitattributes", "v1-4.ckpt", "sd-v1-4.safetensors", "safety_checker/model.safetensors", "unet/model.bin",
    "safety_checker/config.json", "unet/diffusion_pytorch_model.bin", "text_encoder/model.onnx", "logo.png",
    "vae/diffusion_pytorch_model.msgpack", "feature_extractor/preprocessor_config.json",
]  # fmt: skip
PLAIN = ["text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
         "vae/diffusion_pytorch_model.safetensors"]  # fmt: skip
HALF = [name.replace(".safetensors", ".fp16.safetensors") for name in PLAIN]


def names(files: list[str], index: dict[str, object] | None = None, *, half: bool = False) -> list[str]:
    return sorted(file.name for file in choose_files("a/b", [HubFile(name, 10) for name in files], index, half=half))


def test_a_pipeline_takes_its_parts_in_one_variant() -> None:
    everything = [*CONFIGS, *PLAIN, *HALF, *UNWANTED, "README.md", "LICENSE"]
    assert names(everything, PIPELINE) == sorted([*CONFIGS, *PLAIN, "README.md", "LICENSE"])
    assert names(everything, PIPELINE, half=True) == sorted([*CONFIGS, *HALF, "README.md", "LICENSE"])
    assert names([*CONFIGS, *HALF], PIPELINE) == sorted([*CONFIGS, *HALF])


def test_shards_come_with_their_index() -> None:
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    other = ["model.fp16-00001-of-00001.safetensors", "pytorch_model-00001-of-00002.bin", "flax_model.msgpack"]
    index = "model.safetensors.index.json"
    assert names(["config.json", index, *shards, *other]) == sorted(["config.json", index, *shards])


def test_the_sentencepiece_model_is_left_where_there_is_a_tokenizer_json() -> None:
    base = ["config.json", "model.safetensors"]
    assert names([*base, "tokenizer.json", "spiece.model"]) == sorted([*base, "tokenizer.json"])
    assert names([*base, "spiece.model"]) == sorted([*base, "spiece.model"])


def test_pickles_alone_are_refused() -> None:
    with pytest.raises(UserError, match="hub_pickle_only"):
        names(["config.json", "pytorch_model.bin"])
    with pytest.raises(UserError, match="hub_no_weights"):
        names(["config.json"])


@given(st.lists(st.text("ab./-\\ \0", min_size=1, max_size=12), max_size=8))
def test_no_name_leads_out_of_the_folder(listed: list[str]) -> None:
    chosen = names([*(name + ".json" for name in listed), "config.json", "model.safetensors"])
    assert not [name for name in chosen if name.startswith(("/", ".")) or ".." in name or "\\" in name or "\0" in name]


def test_what_cannot_be_loaded_is_known_before_its_weights_are_downloaded() -> None:
    assert task_in("a/b", PIPELINE, None) == TXT2IMG
    assert task_in("a/b", None, {"model_type": "siglip"}) == CLIP
    for index, config, key in (
        (PIPELINE | {"_class_name": "SanaPipeline"}, None, "model_not_supported"),
        (PIPELINE | {"unet": ["os", "system"]}, None, "model_foreign_class"),
        (None, {"model_type": "llama"}, "model_not_supported"),
        (None, None, "hub_no_model"),
    ):
        with pytest.raises(UserError, match=key):
            task_in("a/b", index, config)
