"""A CLIP and a SigLIP of a few thousand random weights, real in everything but training, and pictures to feed them."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from tests.clip.samples import png
from webui.clip.encoder import ClipParts, Encoder
from webui.clip.tokens import byte_alphabet
from webui.vision.pictures import PictureFile

TINY = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """Bytes, bytes that end a word, and a few merges: "c a" -> "ca", and two bytes of a Thai letter."""
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = list(byte_alphabet())
    first, second, _ = (letters[list(byte_alphabet().values()).index(byte)] for byte in "ก".encode())
    merges = ["c a", "ca t</w>", f"{first} {second}"]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary += [merge.replace(" ", "") for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def clip(tokenizer: CLIPTokenizer) -> ClipParts:
    torch.manual_seed(0)
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = CLIPConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 77, **special, **TINY},
        vision_config={"image_size": 32, "patch_size": 8, **TINY},
        projection_dim=16,
    )
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return ClipParts(CLIPModel(config).eval(), CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer))


class _SiglipParts:
    """Stands where SiglipProcessor would: its own tokenizer class wants a sentencepiece file."""

    def __init__(self, image_processor: SiglipImageProcessorPil, tokenizer: CLIPTokenizer) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer


@pytest.fixture(scope="session")
def siglip(tokenizer: CLIPTokenizer) -> ClipParts:
    torch.manual_seed(0)
    config = SiglipConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32, **TINY},
        vision_config={"image_size": 32, "patch_size": 8, **TINY},
    )
    model = SiglipModel(config).eval()
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-3.0)
    return ClipParts(model, _SiglipParts(SiglipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer))


@pytest.fixture
def encoder(clip: ClipParts) -> Encoder:
    return Encoder(clip, "tiny", threads=2)


@pytest.fixture
def siglip_encoder(siglip: ClipParts) -> Encoder:
    return Encoder(siglip, "tiny-siglip", threads=2)


@pytest.fixture
def pictures() -> list[PictureFile]:
    return [png(48, 40, 0), png(40, 64, 1), png(33, 32, 2)]
