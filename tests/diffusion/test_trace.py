"""The trace file: what is saved comes back the same, and what is not ours is refused in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.diffusion.conftest import recorded
from webui.diffusion.recorded_maps import step_sizes
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import FORMAT_VERSION, METADATA_KEY, Trace, open_trace, save_trace
from webui.errors import UserError


@pytest.fixture(scope="module")
def trace(tiny_pipe: StableDiffusionPipeline) -> Trace:
    return recorded(tiny_pipe, GenerateRequest("a cat, a dog", steps=3, seed=7, guidance_scale=4.0), all_heads=True)


@pytest.fixture(scope="module")
def content(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("trace") / "run.safetensors"
    save_trace(trace, path)
    return path.read_bytes()


def assert_same(one: Trace, other: Trace) -> None:
    assert one.header == other.header
    for name in (field.name for field in fields(Trace) if field.name != "header"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is None or theirs is None:
            assert mine is theirs, name
            continue
        for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (mine, theirs)), strict=True):
            assert a.dtype == b.dtype, name
            assert np.array_equal(a, b), name


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_trace(path)
    return caught.value.key


def test_what_is_saved_comes_back(trace: Trace, tmp_path: Path) -> None:
    save_trace(trace, tmp_path / "run.safetensors")
    assert_same(open_trace(tmp_path / "run.safetensors"), trace)
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"], "nothing half written is left"


def test_opening_needs_no_model_library(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from webui.diffusion.trace import open_trace; "
        f"open_trace(Path({str(path)!r})); sys.exit(bool({{'torch', 'diffusers', 'transformers'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def stable_diffusion_size(trace: Trace, words: int) -> Trace:
    """A run of 50 steps at 512 x 512 with as many real words, sized as the recorder sizes it, of noise."""
    rng = np.random.default_rng(0)
    header = trace.header
    levels_at = [(64, 64), (32, 32), (16, 16), (8, 8)]
    rows = words + 3
    kept = step_sizes(levels_at, calls=50, rows=rows, latent_values=4 * 64 * 64)
    word = header.tokens[1]
    tokens = (header.tokens[0], *(replace(word, first=i + 1) for i in range(words)), *header.tokens[-2:])
    level = header.levels[0]
    levels = tuple(
        replace(level, height=h, width=w, step_height=kept[h, w][0], step_width=kept[h, w][1]) for h, w in levels_at
    )

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32).astype(np.float16)

    return replace(
        trace,
        header=replace(
            header,
            tokens=tokens,
            levels=levels,
            steps=header.steps[:1] * 50,
            shapes=replace(header.shapes, embedding=768, latent_height=64, latent_width=64, height=512, width=512),
        ),
        latents=floats(50, 4, 64, 64).astype(np.float32),
        final_latents=floats(4, 64, 64).astype(np.float32),
        predicted_x0=floats(50, 4, 64, 64),
        cond=floats(50, 4, 64, 64),
        uncond=floats(50, 4, 64, 64),
        step_maps=tuple(rng.integers(0, 256, (50, rows, *kept[size]), np.uint8) for size in levels_at),
        step_scales=np.ones((50, rows, 4), np.float32),
        mean_maps=tuple(floats(rows, *size) for size in levels_at),
        head_maps=(),
        head_scales=None,
        picture=rng.integers(0, 256, (512, 512, 3), np.uint8),
        prompt_embeds=floats(77, 768),
    )


@pytest.mark.parametrize("words", [5, 15, 40, 75])
def test_fifty_steps_of_stable_diffusion_fit_in_15_megabytes(trace: Trace, words: int, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    large = stable_diffusion_size(trace, words)
    save_trace(large, path)
    assert path.stat().st_size <= 15_000_000
    assert_same(open_trace(path), large)


def test_a_run_with_nan_is_not_saved(trace: Trace, tmp_path: Path) -> None:
    broken = replace(trace, latents=np.full_like(trace.latents, np.nan))
    with pytest.raises(UserError) as caught:
        save_trace(broken, tmp_path / "run.safetensors")
    assert caught.value.key == "error.trace_not_finite"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        save_trace(trace, tmp_path / "missing" / "run.safetensors")
    assert caught.value.key == "error.trace_not_saved"


def test_every_truncation_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    for length in (0, 1, 7, 8, 9, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert refusal(path) == "error.trace_not_whole", length


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    keeps_open = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", Path("/dev/zero"), Path("a\0b")):
            assert refusal(path) == "error.trace_not_a_file", path
    finally:
        os.close(keeps_open)


def test_foreign_files_are_refused(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    weights = next(tiny_pipeline_folder.glob("unet/*.safetensors"))
    assert refusal(weights) == "error.trace_foreign"
    for name, data in {"text": b"hello, this is no trace at all", "picture": b"\x89PNG\r\n\x1a\n" + bytes(64)}.items():
        (tmp_path / name).write_bytes(data)
        assert refusal(tmp_path / name) == "error.trace_not_whole"
    for metadata in (None, {"format": "pt"}, {METADATA_KEY: "{"}, {METADATA_KEY: "[]"}, {METADATA_KEY: "[" * 9999}):
        (tmp_path / "other").write_bytes(save({"a": np.zeros(3, np.float32)}, metadata))
        assert refusal(tmp_path / "other") == "error.trace_foreign"


def test_a_huge_header_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    for length in (2**63, 2**40, 200):
        path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(100))
        assert refusal(path) == "error.trace_not_whole"
    path.write_bytes((5 * 2**20).to_bytes(8, "little") + b" " * (5 * 2**20))
    assert refusal(path) == "error.trace_foreign"


def test_a_file_beyond_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with path.open("wb") as file:
        file.truncate(257 * 2**20)  # sparse
    assert refusal(path) == "error.trace_too_large"


def edited(
    content: bytes, edit: Callable[[dict[str, Any]], None], arrays: dict[str, np.ndarray] | None = None
) -> bytes:
    """The trace with its own header changed, and with these arrays in place of its own."""
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][METADATA_KEY])
    edit(header)
    return save({**load(content), **(arrays or {})}, {METADATA_KEY: json.dumps(header)})


HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "more calls": lambda h: h["trace"]["steps"].append(h["trace"]["steps"][0]),
    "no calls": lambda h: h["trace"]["steps"].clear(),
    "a word that is not there": lambda h: h["trace"]["tokens"][1].update(word=999),
    "negative": lambda h: h["trace"]["shapes"].update(channels=-4),
    "absurd": lambda h: h["trace"]["shapes"].update(latent_height=10**12),
    "not a number": lambda h: h["trace"]["steps"][0].update(sigma=float("nan")),
    "infinite": lambda h: h["trace"].update(r_squared=float("inf")),
    "text for a number": lambda h: h["trace"].update(seed="7"),
    "another kind": lambda h: h["trace"].update(prediction_type="__import__('os')"),
    "a novel": lambda h: h["trace"]["request"].update(prompt="a" * 10_000),
    "steps beyond measure": lambda h: h["trace"]["request"].update(steps=10**9),
    "stopped, yet with a picture": lambda h: h["trace"].update(stopped=True),
    "larger than its level": lambda h: h["trace"]["levels"][0].update(step_height=5000),
    "no levels": lambda h: h["trace"].update(levels=[]),
    "words without maps": lambda h: h["trace"].update(levels=[], layers=[]),
    "flow that predicts noise": lambda h: h["trace"].update(space="flow"),
    "velocity in another space": lambda h: h["trace"].update(prediction_type="flow"),
    "more noise than there is": lambda h: h["trace"].update(space="flow", prediction_type="flow"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_lies_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(edited(content, lambda header: None))
    open_trace(path)
    path.write_bytes(edited(content, HOSTILE[name]))
    assert refusal(path) == "error.trace_inconsistent"


def test_a_newer_format_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(edited(content, lambda header: header.update(version=FORMAT_VERSION + 1)))
    assert refusal(path) == "error.trace_newer"


def test_arrays_that_do_not_fit_are_refused(trace: Trace, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    for arrays in (
        {"latents": trace.latents.astype(np.float64)},
        {"latents": trace.latents[:, :2].copy()},
        {"evil": np.zeros(4, np.float32)},
        {"alphas_cumprod": trace.alphas_cumprod.reshape(10, -1)},
        {"picture": np.zeros((9, 9, 3), np.uint8)},
    ):
        path.write_bytes(edited(content, lambda header: None, arrays))
        assert refusal(path) == "error.trace_inconsistent", list(arrays)
    path.write_bytes(edited(content, lambda header: None, {"cond": np.full_like(trace.cond, np.inf)}))
    assert refusal(path) == "error.trace_not_finite"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_opens_or_is_refused_in_words(data: st.DataObject, content: bytes, tmp_path: Path) -> None:
    header_length = int.from_bytes(content[:8], "little")
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, header_length + 100))] = data.draw(st.integers(0, 255))
    path = tmp_path / "run.safetensors"
    path.write_bytes(damaged)
    try:
        opened = open_trace(path)
    except UserError as refused:
        key = refused.key
    else:
        assert opened.latents.shape[0] == len(opened.header.steps)
        return
    assert key.startswith("error.trace_")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300))
def test_noise_is_refused_in_words(noise: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(noise)
    assert refusal(path).startswith("error.trace_")
