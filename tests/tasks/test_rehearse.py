"""Rehearsals: small configurations of every task, and Stable Diffusion 1.4 as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from webui.cli import run
from webui.errors import UserError
from webui.runtime import memory
from webui.runtime.fullsize import FullSizeModel, full_size_models
from webui.runtime.random_weights import build_empty, write_full_size
from webui.settings import load_settings
from webui.tasks.rehearse import Stage, rehearse, rehearse_in

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, dict[str, Any]] = {
    "text_encoder": {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4},
    "unet": {
        "sample_size": 8, "cross_attention_dim": 32, "attention_head_dim": 4, "block_out_channels": [32, 64],
        "layers_per_block": 1, "norm_num_groups": 8, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
    "vae": {
        "block_out_channels": [16, 32], "norm_num_groups": 8, "layers_per_block": 1,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    },
}  # fmt: skip
TOWER = SMALL["text_encoder"]
SMALL_XL: dict[str, dict[str, Any]] = {
    "text_encoder": TOWER,
    "text_encoder_2": {**TOWER, "projection_dim": 16},
    "unet": {
        **SMALL["unet"], "cross_attention_dim": 64, "attention_head_dim": [2, 4], "addition_time_embed_dim": 8,
        "transformer_layers_per_block": [1, 2], "projection_class_embeddings_input_dim": 6 * 8 + 16,
    },
    "vae": SMALL["vae"],
}  # fmt: skip
SMALL_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}


def small(name: str) -> FullSizeModel:
    """The configuration with its large numbers made small."""
    model = full_size_models()[name].model_dump(by_alias=True)
    for part, spec in model["parts"].items():
        if part:
            spec["config"] |= (SMALL_XL if name == "sdxl" else SMALL)[part]
        elif model["task"] == "t5":
            spec["config"] |= SMALL_T5
        elif model["task"] == "clip":
            spec["config"]["text_config"] |= TOWER
            spec["config"]["vision_config"] |= TOWER
        else:
            spec["config"] |= TOWER
    return FullSizeModel.model_validate(model)


@pytest.mark.parametrize("name", list(full_size_models()))
def test_a_configuration_has_the_parameters_that_its_model_has(name: str) -> None:
    for part in full_size_models()[name].parts.values():
        parameters = {id(weight): weight.numel() for weight in build_empty(part).parameters()}
        assert sum(parameters.values()) == part.parameters


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("sd21", {"text_encoder": (1, 77, 32), "unet": (1, 4, 8, 8), "vae": (1, 3, 16, 16)}),
        (
            "sdxl",
            {
                "text_encoder": (1, 77, 32),
                "text_encoder_2": (1, 16),
                "unet": (1, 4, 8, 8),
                "vae": (1, 3, 16, 16),
            },
        ),
        ("flan-t5-base", {"encoder": (1, 38, 32), "decoder": (1, 4, 32)}),
        ("clip-l14", {"text_model": (1, 23, 32), "vision_model": (1, 257, 32)}),
    ],
)
def test_a_rehearsal_tells_each_stage_with_its_shape(
    name: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    heard: list[Stage] = []
    done = rehearse_in(tmp_path, load_settings(data_dir=tmp_path), name, small(name), heard.append)
    assert tuple(heard) == done.stages
    assert [stage.name for stage in heard] == ["write", "load", *shapes, "run"]
    assert {stage.name: stage.shape for stage in heard if stage.shape} == shapes
    assert all(stage.seconds > 0 for stage in heard)
    assert (done.device, done.dtype) == ("cpu", "float32")
    assert done.weights_bytes > 0
    assert 0 < done.load_peak_bytes <= done.run_peak_bytes


def test_the_same_seed_writes_the_same_weights_and_no_bias(tmp_path: Path) -> None:
    model = small("sd14")
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_full_size(model, tmp_path / name, seed)
    files = [tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors" for name in ("one", "same", "other")]
    one, same, other = files
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()
    with safe_open(one, "pt") as weights:
        assert not weights.get_tensor("conv_in.bias").any()
        assert weights.get_tensor("conv_in.weight").std() > 0
        assert (weights.get_tensor("conv_norm_out.weight") == 1).all()


def test_a_name_that_is_not_there_and_a_full_disk_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rehearse", "sd99", "--data-dir", str(tmp_path)]) == 2
    assert "sd99" in (complaint := capsys.readouterr().err)
    assert "clip-l14" in complaint
    spec = small("sd14").model_dump(by_alias=True)
    spec["parts"]["unet"]["parameters"] = 2**60
    with pytest.raises(UserError) as refused:
        rehearse_in(tmp_path, load_settings(data_dir=tmp_path), "x", FullSizeModel.model_validate(spec), lambda _: None)
    assert refused.value.key == "error.rehearse_no_disk"
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_the_memory_cannot_hold_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_ram_bytes", lambda: 1000)
    with pytest.raises(UserError) as refused:
        rehearse_in(tmp_path, load_settings(data_dir=tmp_path), "x", small("sd14"), lambda _: None)
    assert refused.value.key == "error.not_enough_ram"
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_can_be_rehearsed_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rehearse", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == full_size_models().keys()
    assert run(["rehearse", "--language", "th"]) == 0
    assert "ไม่มีการดาวน์โหลด" in capsys.readouterr().out


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """While the weights of a ViT are being written."""
    running = subprocess.Popen(
        [sys.executable, "-m", "webui", "rehearse", "vit-b16", "--data-dir", str(tmp_path / "data")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while running.poll() is None and not list(tmp_path.rglob("*.safetensors")):
            try:
                running.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 130
    finally:
        running.kill()
    assert not list(tmp_path.glob("diffuscope-rehearsal-*"))


@pytest.mark.fullsize
@pytest.mark.xdist_group("fullsize")
def test_stable_diffusion_1_4_takes_one_step_at_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = rehearse(load_settings(data_dir=tmp_path), "sd14", lambda _: None)
    shapes = {stage.name: stage.shape for stage in done.stages if stage.shape}
    assert shapes == {"text_encoder": (1, 77, 768), "unet": (1, 4, 64, 64), "vae": (1, 3, 512, 512)}
    assert done.parameters == 1_066_235_307
    assert done.weights_bytes == pytest.approx(4 * done.parameters, rel=0.01)
    assert not list(tmp_path.iterdir()), "the folder with the weights is gone"
