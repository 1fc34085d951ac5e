"""The single files that people have, found in the trees of A1111 and ComfyUI."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest

from webui.errors import UserError
from webui.runtime.catalog import Catalog
from webui.runtime.checkpoint_family import CheckpointFamily, FileKind, detect
from webui.runtime.entries import TXT2IMG
from webui.runtime.weight_files import WeightFiles

SD1 = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
UNET = "model.diffusion_model.input_blocks.0.0.weight"


def write_header(file: Path, shapes: dict[str, list[int]], data_bytes: int = 0) -> Path:
    """A safetensors file whose tensors are all holes: the disk has only its header."""
    spans = [data_bytes, *[data_bytes] * len(shapes)]
    header = {
        name: {"dtype": "U8", "shape": shape, "data_offsets": [0, spans[number]]}
        for number, (name, shape) in enumerate(shapes.items())
    }
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as written:
        written.write(struct.pack("<Q", len(text)) + text)
        written.truncate(8 + len(text) + data_bytes)
    return file


def bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


def test_trees_of_other_programs_are_understood(tmp_path: Path) -> None:
    write_header(tmp_path / "root.safetensors", {UNET: [64, 4, 3, 3], SD1: [49408, 64]})
    a1111 = {
        "Stable-diffusion/sub/one.safetensors": {UNET: [64, 4, 3, 3], SD1: [49408, 64]},
        "Lora/style.safetensors": {"lora_unet_mid_block_attentions_0_attn2_to_k.lora_down.weight": [4, 768]},
        "VAE/smooth.safetensors": {"decoder.conv_in.weight": [32, 4, 3, 3], "encoder.conv_in.weight": [32, 3, 3, 3]},
        "embeddings/tired.safetensors": {"emb_params": [2, 768]},
        "embeddings/xl.safetensors": {"clip_l": [4, 768], "clip_g": [4, 1280]},
        "loras/peft.safetensors": {"unet.mid_block.attentions.0.attn2.to_k.lora_A.weight": [4, 2048]},
        "models/checkpoints/two.safetensors": {UNET: [64, 4, 3, 3], SD1: [49408, 64]},
        "ESRGAN/upscaler.safetensors": {"conv.weight": [3, 3, 3, 3]},
    }
    for name, shapes in a1111.items():
        write_header(tmp_path / name, shapes)
    for name in ("Stable-diffusion/old.ckpt", "Lora/old.pt", "embeddings/old.pt", "ESRGAN/4x.pth"):
        (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "Stable-diffusion" / "folder").mkdir()
    write_header(tmp_path / "Stable-diffusion/folder/part.safetensors", {UNET: [64, 4, 3, 3]})
    (tmp_path / "Stable-diffusion" / "folder" / "model_index.json").write_text("{}")
    found = {file.id: file for file in WeightFiles(tmp_path).found(wait=True)}
    assert {name: file.kind for name, file in found.items()} == {
        "root": FileKind.CHECKPOINT,
        "Stable-diffusion/sub/one": FileKind.CHECKPOINT,
        "Stable-diffusion/old": FileKind.CHECKPOINT,
        "Lora/style": FileKind.LORA,
        "Lora/old": FileKind.LORA,
        "VAE/smooth": FileKind.VAE,
        "embeddings/tired": FileKind.EMBEDDING,
        "embeddings/xl": FileKind.EMBEDDING,
        "embeddings/old": FileKind.EMBEDDING,
        "loras/peft": FileKind.LORA,
        "models/checkpoints/two": FileKind.CHECKPOINT,
    }
    assert found["Lora/style"].context_width == found["embeddings/tired"].context_width == 768
    assert found["loras/peft"].context_width == 2048
    lacking = found["VAE/smooth"].problem
    assert lacking is not None
    assert lacking.key == "error.checkpoint_lacks"
    assert (found["embeddings/tired"].vectors, found["embeddings/xl"].vectors) == (2, 4)
    assert found["embeddings/xl"].context_width == 768 + 1280
    old = found["embeddings/old"].problem
    assert old is not None
    assert old.key == "error.inversion_pickle"
    assert {name for name, file in found.items() if file.problem and file.problem.key == "error.weights_pickle"} == {
        "Stable-diffusion/old",
        "Lora/old",
    }


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    shapes = {UNET: [64, 4, 3, 3], SD1: [49408, 64]}
    for name in ("checkpoints/cat", "Stable-diffusion/cat", "Stable-diffusion/dog"):
        write_header(tmp_path / f"{name}.safetensors", shapes)
    catalog = Catalog(tmp_path, tmp_path)
    assert [entry.id for entry in catalog.entries(TXT2IMG)] == [
        "Stable-diffusion/cat", "Stable-diffusion/dog", "checkpoints/cat",
    ]  # fmt: skip
    with pytest.raises(UserError) as caught:
        catalog.find("cat", TXT2IMG)
    assert caught.value.key == "error.weights_same_name"
    assert caught.value.values["known"] == "Stable-diffusion/cat, checkpoints/cat"
    with pytest.raises(UserError) as caught:  # found by its bare name, and refused for what it lacks
        catalog.find("dog", TXT2IMG)
    assert caught.value.values["file"] == str(tmp_path / "Stable-diffusion/dog.safetensors")


def test_a_thousand_large_files_are_listed_from_their_headers_in_the_background(tmp_path: Path) -> None:
    shapes = {f"model.diffusion_model.input_blocks.{i}.weight": [64, 64] for i in range(100)} | {SD1: [49408, 64]}
    sizes = [
        write_header(tmp_path / "checkpoints" / f"{number}.safetensors", shapes, 4 * 2**30).stat().st_size
        for number in range(1000)
    ]
    files = WeightFiles(tmp_path)
    before = bytes_read()
    first = files.found()
    assert len(first) < 1000  # the rest is left to the background
    deadline = time.monotonic() + 120
    while files.waiting() and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = files.found(wait=True)
    assert len(seen) == 1000
    assert {file.size_bytes for file in seen} == set(sizes)
    read = bytes_read() - before
    headers = 1000 * (sizes[0] - 4 * 2**30)
    assert read < 1.5 * headers + 2**20, f"{read} bytes read of {sum(sizes)}"
    before = bytes_read()
    assert len(files.found()) == 1000
    assert bytes_read() - before < 2**16  # nothing is read twice
    (tmp_path / "checkpoints" / "0.safetensors").unlink()
    assert len(files.found()) == 999


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("conditioner.embedders.1.model.ln_final.weight", CheckpointFamily.SDXL),
        ("conditioner.embedders.0.model.ln_final.weight", CheckpointFamily.SDXL_REFINER),
        ("cond_stage_model.model.ln_final.weight", CheckpointFamily.SD2),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", CheckpointFamily.SD1),
        ("model.diffusion_model.joint_blocks.0.x", CheckpointFamily.SD3),
        ("model.diffusion_model.double_blocks.0.x", CheckpointFamily.FLUX),
        ("model.diffusion_model.other", None),
    ],
)
def test_families_are_told_by_their_names(name: str, family: CheckpointFamily | None) -> None:
    assert detect({UNET: (320, 4, 3, 3), name: (1,)}).family is family
