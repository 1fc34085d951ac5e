"""The real families, through the manager, with tiny models in real files."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from webui.errors import UserError
from webui.runtime import loaders
from webui.runtime.catalog import Catalog
from webui.runtime.entries import CLIP, TXT2IMG, ModelKey
from webui.runtime.jobs import JobCancelled
from webui.runtime.manager import ModelManager


@pytest.fixture
def manager(models_dir: Path) -> Iterator[ModelManager]:
    manager = ModelManager([models_dir])
    yield manager
    manager.close()


@pytest.fixture
def key_of(models_dir: Path) -> Callable[..., ModelKey]:
    """A key without the catalog's checks, so that the loader's own are tried."""
    return lambda name, task=TXT2IMG: ModelKey(task, str(models_dir / name), "1", "float32")


def draw(pipe: StableDiffusionPipeline) -> Any:
    generator = torch.Generator().manual_seed(7)
    pipe.set_progress_bar_config(disable=True)
    return pipe("a cat", num_inference_steps=2, height=16, width=16, generator=generator, output_type="np").images


def test_the_pipeline_draws_what_the_stock_one_draws(manager: ModelManager, models_dir: Path) -> None:
    stock = StableDiffusionPipeline.from_pretrained(models_dir / "tiny", local_files_only=True, safety_checker=None)
    with manager.use(Catalog(models_dir, models_dir).find("tiny", TXT2IMG).key("float32")) as pipe:
        assert isinstance(pipe, StableDiffusionPipeline)
        assert np.array_equal(draw(pipe), draw(stock))
        assert not pipe.unet.training
        assert not any(weight.requires_grad for weight in pipe.unet.parameters())


def test_auto_and_the_dtype_it_stands_for_are_one_model(manager: ModelManager, models_dir: Path) -> None:
    entry = Catalog(models_dir, models_dir).find("clip", CLIP)
    with manager.use(entry.key()) as clip, manager.use(entry.key(str(clip.model.dtype).removeprefix("torch."))) as same:
        assert clip is same


def test_weights_are_converted_to_the_dtype_of_the_key(manager: ModelManager, key_of: Callable[..., ModelKey]) -> None:
    half = ModelKey(TXT2IMG, key_of("tiny").source, "1", "float16")
    with manager.use(half) as pipe:
        assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float16}


def test_clip_scores_as_the_library_does(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path
) -> None:
    stock = CLIPModel.from_pretrained(models_dir / "clip", local_files_only=True).eval()
    with manager.use(key_of("clip", CLIP)) as clip:
        assert isinstance(clip, loaders.ClipModel)
        picture = Image.new("RGB", (32, 32), "red")
        inputs = clip.processor(text=["a cat"], images=[picture], return_tensors="pt", padding=True)
        with torch.no_grad():
            assert torch.equal(clip.model(**inputs).logits_per_image, stock(**inputs).logits_per_image)


def test_models_with_equal_parts_share_them(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path
) -> None:
    """A second pipeline with another U-Net over the same VAE and text encoder, and a CLIP trained with them."""
    shutil.copytree(models_dir / "tiny", models_dir / "other")
    file = models_dir / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    with (
        manager.use(key_of("tiny")) as tiny,
        manager.use(key_of("other")) as other,
        manager.use(key_of("clip", CLIP)) as clip,
    ):
        assert tiny.vae is other.vae
        assert tiny.text_encoder is other.text_encoder is clip.model.text_model
        assert tiny.unet is not other.unet
        parts = [tiny.unet, tiny.vae, tiny.text_encoder, other.unet, clip.model]
        tensors = {id(tensor): tensor.nbytes for part in parts for tensor in (*part.parameters(), *part.buffers())}
        assert manager.memory_status().models_bytes == sum(tensors.values())
        assert all(model.shares_modules for model in manager.status())
    manager.unload(key_of("tiny"))
    with manager.use(key_of("other")) as other:
        assert draw(other).shape == (1, 16, 16, 3)


def test_a_part_that_differs_in_one_number_or_setting_is_not_shared(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path
) -> None:
    shutil.copytree(models_dir / "tiny", models_dir / "other")
    config = models_dir / "other" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.5}))
    file = models_dir / "other" / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    next(iter(weights.values())).view(-1)[0] += 1e-3
    save_file(weights, file, metadata={"format": "pt"})
    with manager.use(key_of("tiny")) as tiny, manager.use(key_of("other")) as other:
        assert tiny.unet is other.unet
        assert tiny.vae is not other.vae
        assert tiny.text_encoder is not other.text_encoder


def test_fifty_switches_between_two_models_leave_nothing_behind(
    models_dir: Path, key_of: Callable[..., ModelKey]
) -> None:
    """A budget for one: every use reads the model anew. `python -m tests.bench switches` reports the figures."""
    shutil.copytree(models_dir / "tiny", models_dir / "other")
    for name in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        file = models_dir / "other" / f"{name}.safetensors"
        save_file({key: tensor + 1 for key, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    manager, process = ModelManager([models_dir], ram_budget_bytes=6 * 2**20), psutil.Process()
    alive: list[weakref.ref[Any]] = []
    resident_bytes: list[int] = []
    for number in range(50):
        with manager.use(key_of(("tiny", "other")[number % 2])) as pipe:
            alive += [weakref.ref(part) for part in (pipe, pipe.unet, pipe.vae, pipe.text_encoder)]
            alive.append(weakref.ref(pipe.unet.conv_in.weight))
        del pipe
        assert len(manager.status()) == 1
        resident_bytes.append(process.memory_info().rss)
    manager.close()
    gc.collect()
    assert [ref() for ref in alive if ref() is not None] == []
    model_bytes = 5 * 2**20
    assert resident_bytes[-1] - resident_bytes[9] < 4 * model_bytes  # forty leaks would be 200 MiB


def test_a_load_is_watched_and_cancelled_between_files(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path
) -> None:
    cancel = threading.Event()
    seen: list[tuple[int, int, str]] = []

    def watch(done: int, total: int, phase: str) -> None:
        seen.append((done, total, phase))
        if done == total:
            cancel.set()

    with (
        mock.patch.object(AutoencoderKL, "from_pretrained", side_effect=AssertionError("not after a cancel")),
        pytest.raises(JobCancelled),
        manager.use(key_of("tiny"), cancel=cancel, on_progress=watch),
    ):
        pass
    total = sum(file.stat().st_size for file in (models_dir / "tiny").rglob("*.safetensors"))
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})
    assert seen[-1] == (total, total, "phase.loading_weights")
    assert manager.status() == ()


def test_weights_that_lack_a_tensor_are_refused_though_the_library_would_draw_noise(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path
) -> None:
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        file = models_dir / "tiny" / f"{name}.safetensors"
        whole = load_file(file)
        lost = min(whole)
        save_file({key: tensor for key, tensor in whole.items() if key != lost}, file, metadata={"format": "pt"})
        with pytest.raises(UserError) as caught, manager.use(key_of("tiny")):
            pass
        assert caught.value.values["file"] == str(file)
        assert lost in str(caught.value)
        save_file(whole, file, metadata={"format": "pt"})
    with manager.use(key_of("tiny")):
        pass


@pytest.mark.parametrize(
    "config", [{"block_out_channels": "x"}, {"block_out_channels": [64, 128]}, {"norm_num_groups": 7}]
)
def test_a_configuration_that_does_not_fit_the_weights_is_a_one_line_error(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path, config: dict[str, object]
) -> None:
    file = models_dir / "tiny" / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(UserError) as caught, manager.use(key_of("tiny")):
        pass
    assert caught.value.values["file"].startswith(str(models_dir / "tiny" / "unet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "task"), [("tiny", TXT2IMG), ("clip", CLIP)])
def test_a_tokenizer_of_another_model_is_refused(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path, name: str, task: str
) -> None:
    folder = models_dir / "tiny" / "tokenizer" if name == "tiny" else models_dir / "clip"
    (folder / "tokenizer.json").unlink(missing_ok=True)
    pieces = ["<|startoftext|>", "<|endoftext|>", *"abc"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(UserError) as caught, manager.use(key_of(name, task)):
        pass
    assert caught.value.key == "error.tokenizer_mismatch"
    assert (caught.value.values["tokens"], caught.value.values["vocabulary"]) == (5, 514)


def test_code_beside_the_weights_is_never_run(
    manager: ModelManager, key_of: Callable[..., ModelKey], models_dir: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "ran"
    (models_dir / "clip" / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    config = models_dir / "clip" / "config.json"
    auto_map = {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | auto_map))
    with manager.use(key_of("clip", CLIP)) as clip:
        assert type(clip.model) is CLIPModel
    assert not canary.exists()


def test_slicing_and_tiling_are_undone_after_the_run(manager: ModelManager, key_of: Callable[..., ModelKey]) -> None:
    tiled: list[bool] = []

    def work(pipe: StableDiffusionPipeline) -> Any:
        tiled.append(pipe.vae.use_tiling)
        if len(tiled) == 1:
            raise MemoryError
        return draw(pipe)

    with manager.use(key_of("tiny")) as pipe:
        exact = draw(pipe)
    saved = manager.run(key_of("tiny"), work)
    assert tiled == [False, True]
    assert np.allclose(exact, saved, atol=1e-5)
    with manager.use(key_of("tiny")) as pipe:
        assert not pipe.vae.use_tiling
        assert np.array_equal(draw(pipe), exact)


def test_parts_of_the_real_pipeline_take_turns_to_the_same_picture(
    manager: ModelManager, key_of: Callable[..., ModelKey]
) -> None:
    """CPU to CPU, so that the pixels can be compared: the hooks run as they would with an accelerator."""
    from webui.runtime import placement
    from webui.runtime.locks import ConstructionLock

    with manager.use(key_of("tiny")) as pipe:
        expected = draw(pipe)
        parts = {"text_encoder": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.vae}
        hooks = placement.let_take_turns(parts, torch.device("cpu"), ConstructionLock())
        assert np.array_equal(draw(pipe), expected)
        placement.end_turns(hooks)
        placement.dispatch_split({"unet": pipe.unet}, {"unet": _by_child(pipe.unet)}, ConstructionLock())
        assert np.array_equal(draw(pipe), expected)


def _by_child(module: UNet2DConditionModel) -> dict[str, int | str]:
    return {name: "cpu" for name, _ in module.named_children()}
