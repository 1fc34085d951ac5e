from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import webui
from webui.diffusion.request import MAX_SEED, GenerateLimits, GenerateRequest
from webui.diffusion.samplers import SAMPLERS
from webui.errors import UserError
from webui.i18n import LANGUAGES, load_messages
from webui.store.infotext import MAX_INFOTEXT_CHARACTERS, format_infotext, parse_infotext, read_infotext

LIMITS = GenerateLimits()

ANY_CHARACTER = st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\n\r\t")
TRICKY = st.sampled_from(
    [
        "Negative prompt: not this",
        "a\nNegative prompt: b\nNegative prompt: c",
        "Steps: 3, Sampler: Euler, CFG scale: 1, Seed: 1",
        "a cat\nSteps: 20, Sampler: DDIM, Size: 8x8",
        'she said "a, b: c"\\',
        " spaces at the ends ",
        "\n\nempty lines\n\n",
        "แมวบนพื้นหลังสีน้ำเงิน\u200b",
        "line\u2028separator\x0bno",
        '"',
        "\\",
    ]
).filter(lambda text: "\x0b" not in text)
PROMPTS = st.text(ANY_CHARACTER, max_size=80) | TRICKY | st.lists(TRICKY, min_size=2, max_size=3).map("\n".join)

REQUESTS = st.builds(
    GenerateRequest,
    prompt=PROMPTS,
    negative_prompt=PROMPTS,
    model=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
    | st.sampled_from(["emoji", "CompVis/stable-diffusion-v1-4", "my model, v: 2", 'a "b"']),
    sampler=st.sampled_from(list(SAMPLERS)),
    steps=st.integers(1, LIMITS.max_steps),
    guidance_scale=st.floats(0, LIMITS.max_guidance_scale) | st.sampled_from([1, 7, 7.5]),
    width=st.integers(1, 128).map(lambda n: n * 8),
    height=st.integers(1, 128).map(lambda n: n * 8),
    seed=st.integers(0, MAX_SEED),
    original_prompt=PROMPTS,
)


@given(request=REQUESTS)
@example(GenerateRequest("", "", width=8, height=8, seed=0))
@example(GenerateRequest("", "x", width=8, height=8, seed=0))
def test_every_valid_request_comes_back(request: GenerateRequest) -> None:
    text = format_infotext(request, request.seed, *size_of(request))
    found = parse_infotext(text)
    assert found.ignored == ()
    assert found.over(GenerateRequest("another")) == request


def test_the_format_is_a1111s() -> None:
    request = GenerateRequest(
        "a cat", negative_prompt="a dog", model="emoji", sampler="DPM++ 2M Karras", steps=20, guidance_scale=7.0
    )
    assert format_infotext(request, 42, 128, 96) == (
        "a cat\n"
        "Negative prompt: a dog\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 128x96, "
        f"Model: emoji, Version: diffuscope {webui.__version__}"
    )


def test_a_translated_prompt_keeps_what_it_was_translated_from() -> None:
    request = GenerateRequest("a cat", width=8, height=8, seed=1, original_prompt="แมว, ตัวหนึ่ง")
    text = format_infotext(request, 1, 8, 8)
    assert text.startswith("a cat\nSteps: 20, "), "other tools draw from the first line"
    assert 'Model: emoji, Original prompt: "แมว, ตัวหนึ่ง", Version: ' in text
    found = parse_infotext(text)
    assert (found.values["prompt"], found.values["original_prompt"]) == ("a cat", "แมว, ตัวหนึ่ง")
    too_long = parse_infotext(f"a cat\nSteps: 5, Seed: 1, Original prompt: {'ก' * 4001}")
    assert [error.key for error in too_long.ignored] == ["error.prompt_too_long"]


def test_a_prompt_that_the_format_cannot_hold_is_still_readable_to_others() -> None:
    request = GenerateRequest("a cat\nNegative prompt: no", width=8, height=8, seed=1)
    text = format_infotext(request, 1, 8, 8)
    assert text.startswith("a cat\nNegative prompt: no\nSteps: 20, ")
    assert text.endswith('Exact prompt: "a cat\\nNegative prompt: no", Exact negative prompt: ""')


A1111_OLD = (
    "masterpiece, a cat (sitting:1.2)\non a mat\nNegative prompt: lowres, bad hands\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 2895126, Size: 512x768, Model hash: 6ce0161689, "
    "Model: v1-5-pruned, Clip skip: 2, Hires upscaler: Latent, Version: v1.6.0"
)

A1111_NEW = (
    "a cat\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, Model: sd, "
    'Lora hashes: "a: 1, b: 2", Version: v1.9.4'
)


def test_a1111s_own_infotext_is_read() -> None:
    found = parse_infotext(A1111_OLD)
    assert found.values == {
        "prompt": "masterpiece, a cat (sitting:1.2)\non a mat",
        "negative_prompt": "lowres, bad hands",
        "sampler": "DPM++ 2M Karras",
        "steps": 28,
        "guidance_scale": 6.5,
        "seed": 2895126,
        "width": 512,
        "height": 768,
        "model": "v1-5-pruned",
    }
    assert [(error.key, error.values["name"]) for error in found.ignored] == [
        ("infotext.unknown_field", "Model hash"),
        ("infotext.unknown_field", "Clip skip"),
        ("infotext.unknown_field", "Hires upscaler"),
    ]
    newer = parse_infotext(A1111_NEW)
    assert newer.values["sampler"] == "Euler a"
    assert [error.values for error in newer.ignored] == [{"name": "Lora hashes", "value": "a: 1, b: 2"}]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("Steps: many, Sampler: DDIM, Seed: 1", "infotext.bad_value"),
        ("Steps: 10000, Sampler: DDIM, Seed: 1", "error.steps_out_of_range"),
        ("Steps: 5, Sampler: Restart, Seed: 1", "infotext.unknown_sampler"),
        ("Steps: 5, Sampler: DDIM, Seed: -5", "error.seed_out_of_range"),
        ("Steps: 5, Sampler: DDIM, CFG scale: nan", "error.guidance_scale_out_of_range"),
        ("Steps: 5, Sampler: DDIM, Size: 512", "infotext.bad_value"),
        ("Steps: 5, Sampler: DDIM, Size: 512x0", "error.size_not_possible"),
        ("Steps: 5, Sampler: DDIM, Size: 99999x8", "error.size_not_possible"),
        (f"Steps: {'9' * 5000}, Sampler: DDIM, Seed: 1", "infotext.bad_value"),
        ("Steps: 5, Sampler: DDIM, Model: a\0b", "infotext.bad_value"),
        (f"Steps: 5, Sampler: DDIM, Model: {'m' * 300}", "infotext.bad_value"),
    ],
)
def test_a_bad_value_is_left_out_and_named_and_spoils_nothing_else(line: str, key: str) -> None:
    found = parse_infotext(f"a cat\n{line}")
    assert [error.key for error in found.ignored] == [key]
    assert found.values["prompt"] == "a cat"
    assert len(found.values) >= 3


@given(text=st.text() | st.text('Steps: 1,"\\nSamplr\nNegative prompt:x', max_size=200))
@example('Steps: 1, Sampler: "\\ud800", Seed: 1')
@example("a" * 200_000)
@example("x\n" + "Ab: \\" * 5000)
@example('x\nA: "' + "\\" * 20_000 + ", B: 1, C: 2")
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    messages = load_messages()
    try:
        found = parse_infotext(text)
    except UserError as error:
        refusals: tuple[UserError, ...] = (error,)
    else:
        refusals = found.ignored
        found.over(GenerateRequest("another"))
    for refusal in refusals:
        for language in LANGUAGES:
            assert len(messages.error(language, refusal)) < 1000


def test_empty_and_endless_text_is_refused() -> None:
    for text, key in (
        (" \n", "error.infotext_empty"),
        ("a" * (MAX_INFOTEXT_CHARACTERS + 1), "error.infotext_too_long"),
    ):
        with pytest.raises(UserError) as refusal:
            parse_infotext(text)
        assert refusal.value.key == key


def png(texts: Mapping[str, str], size: tuple[int, int] = (8, 8)) -> bytes:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG with this chunk behind its header."""
    plain = png({})
    return plain[:33] + chunk(kind, data) + plain[33:]


@pytest.mark.parametrize("text", ["a cat", "แมว 😀\nSteps: 1", "naïve café"])
def test_the_text_in_a_png_is_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png({"parameters": text, "Software": "x"}))
    assert read_infotext(path) == text
    assert read_infotext(str(path)) == text
    assert read_infotext(io.BytesIO(path.read_bytes())) == text
    with Image.open(path) as image:
        assert read_infotext(image) == text


BOMB = zlib.compress(b"a" * 200_000_000, 9)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        pytest.param(b"", "error.not_a_png", id="empty"),
        pytest.param(b"GIF89a" + bytes(40), "error.not_a_png", id="GIF"),
        pytest.param(png({"parameters": "a cat"})[:20], "error.png_damaged", id="cut in the header"),
        pytest.param(png({"parameters": "a cat" * 99})[:120], "error.png_damaged", id="cut in the text"),
        pytest.param(with_chunk(b"zTXt", b"parameters\0\0" + BOMB), "error.png_damaged", id="zTXt bomb"),
        pytest.param(with_chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB), "error.png_damaged", id="iTXt bomb"),
        pytest.param(with_chunk(b"zTXt", b"parameters\0\0garbage"), "error.infotext_missing", id="bad zTXt"),
        pytest.param(with_chunk(b"iTXt", b"parameters"), "error.infotext_missing", id="bad iTXt"),
        pytest.param(png({"Software": "x"}), "error.infotext_missing", id="no parameters"),
        pytest.param(png({"parameters": "  "}), "error.infotext_missing", id="blank parameters"),
        pytest.param(png({"prompt": "{}", "workflow": "{}"}), "error.infotext_of_another_tool", id="ComfyUI"),
        pytest.param(png({"invokeai_metadata": "{}"}), "error.infotext_of_another_tool", id="InvokeAI"),
        pytest.param(
            png({})[:16] + struct.pack(">II", 60_000, 60_000) + png({})[24:], "error.not_a_png", id="wrong header CRC"
        ),
        pytest.param(
            png({})[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + png({})[33:],
            "error.picture_too_large",
            id="decompression bomb",
        ),
    ],
)
def test_hostile_and_foreign_files_are_refused_in_words(data: bytes, key: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(UserError) as refusal:
        read_infotext(path)
    assert refusal.value.key == key
    for language in LANGUAGES:
        assert load_messages().error(language, refusal.value)


@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_flipped_byte_is_no_crash(position: int, value: int) -> None:
    data = bytearray(png({"parameters": "a cat\nSteps: 1, Sampler: Euler, Seed: 1"}))
    data[position % len(data)] = value
    with contextlib.suppress(UserError):
        parse_infotext(read_infotext(io.BytesIO(bytes(data))))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_infotext(tmp_path / "none.png")


def size_of(request: GenerateRequest) -> tuple[int, int]:
    assert request.width is not None
    assert request.height is not None
    return request.width, request.height


def test_each_picture_of_a_batch_carries_its_own_seed() -> None:
    request = GenerateRequest("a cat", seed=5, batch_size=2, batch_count=2, width=8, height=8)
    found = parse_infotext(format_infotext(request, 7, 8, 8)).over(GenerateRequest("x"))
    assert found == replace(request, seed=7, batch_size=1, batch_count=1)
