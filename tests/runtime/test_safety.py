from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.errors import UserError
from webui.i18n import load_messages
from webui.runtime import safety


def problem(folder: Path) -> UserError:
    check = safety.check_clip_folder if folder.name == "clip" else safety.check_pipeline_folder
    with pytest.raises(UserError) as caught:
        check(folder, [folder.parent])
    for language in ("en", "th"):
        assert "\n" not in load_messages().error(language, caught.value)
    return caught.value


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_good_folders_pass(models_dir: Path) -> None:
    safety.check_pipeline_folder(models_dir / "tiny", [models_dir])
    safety.check_clip_folder(models_dir / "clip", [models_dir])


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(models_dir: Path, name: str) -> None:
    (models_dir / "tiny" / name).unlink()
    error = problem(models_dir / "tiny")
    assert (error.key, error.values["file"]) == ("error.model_file_missing", str(models_dir / "tiny" / name))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_of_a_clip_is_named(models_dir: Path, name: str) -> None:
    (models_dir / "clip" / name).unlink()
    assert problem(models_dir / "clip").values["file"] == str(models_dir / "clip" / name)


def test_a_missing_tokenizer_is_noticed_though_the_library_would_make_one_up(models_dir: Path) -> None:
    shutil.rmtree(models_dir / "tiny" / "tokenizer")
    assert problem(models_dir / "tiny").key == "error.model_file_missing"
    for file in (models_dir / "clip").glob("*"):
        if file.name in ("tokenizer.json", "vocab.json"):
            file.unlink()
    assert problem(models_dir / "clip").values["file"].endswith("vocab.json")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_a_truncated_weights_file_is_named(models_dir: Path, keep: int) -> None:
    file = models_dir / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    error = problem(models_dir / "tiny")
    assert (error.key, error.values["file"]) == ("error.model_file_broken", str(file))


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00", "[" * 100_000, '{"a": NaN', "\ud800"])
def test_a_configuration_that_is_no_json_object_is_named(models_dir: Path, text: str) -> None:
    file = models_dir / "tiny" / "unet" / "config.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert problem(models_dir / "tiny").values["file"] == str(file)


def test_pickles_are_refused_with_a_hint(models_dir: Path) -> None:
    file = models_dir / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    assert problem(models_dir / "tiny").key == "error.model_pickle_only"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("unet", ["my_unet", "MyUNet"]),
        ("unet", ["diffusers", "AutoencoderKL"]),
        ("vae", ["diffusers", "AutoencoderKL", "x"]),
        ("scheduler", ["diffusers", "DiffusionPipeline"]),
        ("scheduler", ["os", "EvilScheduler"]),
        ("tokenizer", ["transformers", "AutoTokenizer"]),
        ("text_encoder", [None, None]),
        ("extra", ["diffusers", "ControlNetModel"]),
        ("safety_checker", ["subprocess", "Popen"]),
        ("unet", []),
    ],
)
def test_a_foreign_class_is_refused(models_dir: Path, part: str, value: list[object]) -> None:
    change_json(models_dir / "tiny" / "model_index.json", lambda index: index.update({part: value}))
    error = problem(models_dir / "tiny")
    assert (error.key, error.values["part"]) == ("error.model_foreign_class", part)


@pytest.mark.parametrize("value", [None, "SanaPipeline", ["my_pipeline", "MyPipeline"], 3])
def test_another_pipeline_is_refused(models_dir: Path, value: object) -> None:
    change_json(models_dir / "tiny" / "model_index.json", lambda index: index.update(_class_name=value))
    assert problem(models_dir / "tiny").key == "error.model_not_supported"


def test_parts_that_stable_diffusion_1_brings_and_that_are_not_used_are_fine(models_dir: Path) -> None:
    parts = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
        "image_encoder": [None, None],
    }
    change_json(models_dir / "tiny" / "model_index.json", lambda index: index.update(parts))
    safety.check_pipeline_folder(models_dir / "tiny", [models_dir])


@pytest.mark.parametrize("name", ["unet", "unet/diffusion_pytorch_model.safetensors", "scheduler"])
def test_a_link_that_leads_out_of_the_models_folder_is_refused(models_dir: Path, tmp_path: Path, name: str) -> None:
    inside, outside = models_dir / "tiny" / name, tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    assert problem(models_dir / "tiny").key == "error.model_path_outside"


def test_shards_are_followed_but_not_out_of_their_folder(models_dir: Path) -> None:
    folder = models_dir / "tiny" / "unet"
    whole = folder / "diffusion_pytorch_model.safetensors"
    whole.rename(folder / "diffusion_pytorch_model-00001-of-00001.safetensors")
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}}))
    safety.check_pipeline_folder(models_dir / "tiny", [models_dir])
    for name in ("../vae/diffusion_pytorch_model.safetensors", "x.bin", "missing.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert problem(models_dir / "tiny").key in ("error.model_file_broken", "error.model_file_missing")


def test_the_fp16_variant_is_found_by_itself(models_dir: Path) -> None:
    folder = models_dir / "tiny" / "unet"
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert safety.find_weights(folder, safety.DIFFUSERS_STEM).variant == "fp16"


@given(st.binary(max_size=300))
def test_no_bytes_at_all_can_upset_the_header_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("header") / "x.safetensors"
    file.write_bytes(data)
    with pytest.raises(UserError, match="model_file_broken"):
        safety.read_safetensors_header(file)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_header_at_all_can_upset_the_header_reader(tmp_path_factory: pytest.TempPathFactory, header: object) -> None:
    file = tmp_path_factory.mktemp("header") / "x.safetensors"
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"tail")
    with pytest.raises(UserError, match="model_file_broken"):
        safety.read_safetensors_header(file)
