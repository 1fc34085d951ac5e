"""Every family of txt2img models, from its folder through catalogue, manager and tasks, beside the stock pipeline."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from tests.tiny_families import FAMILIES, save_families, save_spiece
from webui.diffusion.ablation import decode_x0
from webui.diffusion.capabilities import capabilities_of
from webui.diffusion.generate import StepView, generate
from webui.diffusion.lora import LoraFile, loras_applied
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SHIPPED_SAMPLERS
from webui.diffusion.trace import open_trace, save_trace
from webui.diffusion.wordmaps import word_map
from webui.errors import UserError
from webui.i18n import Translator
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobContext, Published
from webui.settings import Settings
from webui.store.infotext import parse_infotext, read_infotext
from webui.studio import Studio, open_studio
from webui.tasks.inside import AblationRequest, TraceRequest, leave_out_word, record_run
from webui.tasks.recordings import record
from webui.tasks.tour import TourRequest, check_tour
from webui.tasks.txt2img import PreviewFrame, count_prompt_tokens, draw_pictures, prepare_request
from webui.views.inside_payload import trace_payload
from webui.views.trace_report import describe_trace

SAMPLER = dict.fromkeys(FAMILIES, "Euler") | {"sd3": "Flow Euler", "flux": "Flow Euler", "lcm": "LCM"}
REQUESTS = {
    name: GenerateRequest("a cat", model=name, sampler=SAMPLER[name], steps=3, seed=7, width=24, height=16)
    for name in FAMILIES
} | {"turbo": GenerateRequest("a cat", model="turbo", sampler="Euler", steps=1, seed=7, guidance_scale=0.0)}
TRANSFORMERS = ("sd3", "flux", "pixart")
WITH_A_UNET = ("sd1", "sd2", "turbo", "lcm", "xl")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("families")
    save_families(folder / "models")
    opened = open_studio(
        Settings(data_dir=folder, index_outputs=False)
    )  # which would build a model beside the stock one
    yield opened
    opened.close()


def context(heard: list[Any] | None = None, cancelled: threading.Event | None = None) -> JobContext:
    def hear(event: Any, _kept: bool) -> None:
        if heard is not None and isinstance(event, Published):
            heard.append(event.value)

    return JobContext("cpu", cancelled or threading.Event(), hear)


def stock_picture(studio: Studio, request: GenerateRequest, **left_out: None) -> np.ndarray:
    """What a reader of diffusers' documentation would write."""
    pipe: Any = DiffusionPipeline.from_pretrained(
        studio.settings.models_dir / request.model, local_files_only=True, **left_out
    )
    pipe.set_progress_bar_config(disable=True)
    sampler = SHIPPED_SAMPLERS.find(request.sampler)
    if sampler.training == "noise":
        scheduler_class = getattr(diffusers, sampler.scheduler)
        pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config, **sampler.overrides)
    options: dict[str, Any] = {"negative_prompt": request.negative_prompt} if request.negative_prompt else {}
    if isinstance(pipe, diffusers.PixArtSigmaPipeline):  # the size that is asked for, not the nearest in a table
        options |= {"use_resolution_binning": False, "clean_caption": False}
    image = pipe(
        request.prompt, num_inference_steps=request.steps, guidance_scale=request.guidance_scale, width=request.width,
        height=request.height, generator=[torch.Generator().manual_seed(request.seed)], **options,
    ).images[0]  # fmt: skip
    return np.asarray(image)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_draws_what_the_stock_pipeline_draws_and_shows_it_taking_shape(name: str, studio: Studio) -> None:
    request = prepare_request(studio, REQUESTS[name])
    heard: list[Any] = []
    drawn = draw_pictures(studio, request, context(heard))
    with Image.open(drawn.pictures[0].path) as image:
        assert np.array_equal(np.asarray(image), stock_picture(studio, request))
    frames = [value for value in heard if isinstance(value, PreviewFrame)]
    assert [frame.step for frame in frames] == list(range(1, request.steps + 1))
    read = parse_infotext(read_infotext(drawn.pictures[0].path) or "")
    expected = {"prompt": "a cat", "sampler": request.sampler, "seed": 7, "steps": request.steps}
    assert expected.items() <= read.values.items()
    assert read.ignored == ()


@pytest.mark.parametrize("name", ["sd2", "xl", "sd3", "pixart"])
def test_a_negative_prompt_reaches_the_model(name: str, studio: Studio) -> None:
    request = prepare_request(studio, replace(REQUESTS[name], negative_prompt="a dog"))
    with studio.manager.use(studio.catalog.find(name, TXT2IMG).key()) as pipe:
        (picture,) = generate(pipe, request).pictures
        (without,) = generate(pipe, replace(request, negative_prompt="")).pictures
    assert np.array_equal(np.asarray(picture.image), stock_picture(studio, request))
    assert picture.image.tobytes() != without.image.tobytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_x0_is_what_the_sampler_ends_at_and_a_cancel_stops_before(name: str, studio: Studio) -> None:
    """At the last step of these samplers no noise is left, so that x0 is the latent that is decoded."""
    request = prepare_request(studio, replace(REQUESTS[name], steps=3))
    views: list[StepView] = []
    cancel = threading.Event()
    with studio.manager.use(studio.catalog.find(name, TXT2IMG).key()) as pipe:
        can = capabilities_of(pipe)
        (picture,) = generate(pipe, request, on_step=views.append).pictures
        latents = views[-1].predicted_x0 / can.scale + can.shift
        with torch.inference_mode():
            pixels = pipe.image_processor.postprocess(pipe.vae.decode(latents, return_dict=False)[0], "np")[0]
        assert abs(np.asarray(picture.image) / 255 - pixels).max() <= 1.01 / 255
        stopped = generate(pipe, request, on_step=lambda view: cancel.set(), cancel=cancel)
    assert (stopped.stopped, stopped.pictures) == (True, ())
    shape = (1, can.latent_channels, request.height // can.factor, request.width // can.factor)
    assert all(view.latents.shape == view.model_output.shape == view.predicted_x0.shape == shape for view in views)


@pytest.mark.parametrize("name", WITH_A_UNET)
def test_recording_changes_no_pixel_and_finds_every_word(name: str, studio: Studio) -> None:
    request = replace(REQUESTS[name], prompt="a cat and a car")
    untraced = draw_pictures(studio, prepare_request(studio, request), context())
    trace = record_run(studio, TraceRequest(request), context()).trace
    with Image.open(untraced.pictures[0].path) as image:
        assert trace.picture is not None
        assert np.array_equal(trace.picture, np.asarray(image))
    assert trace.header.words == ("a", "cat", "and", "a", "car")
    shapes = trace.header.shapes
    assert trace.header.prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    assert shapes.embedding == (64 if name == "xl" else 32)
    everything = sum(word_map(trace, [row]) for row in range(len(trace.header.tokens)))
    assert everything == pytest.approx(1, abs=0.02), "at each place the attention to all tokens is 1"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_is_recorded_step_by_step_without_word_maps(name: str, studio: Studio, tmp_path: Path) -> None:
    request = prepare_request(studio, replace(REQUESTS[name], guidance_scale=4.0))
    untraced = draw_pictures(studio, request, context())
    trace = record_run(studio, TraceRequest(request, all_heads=True), context()).trace
    with Image.open(untraced.pictures[0].path) as image:
        assert trace.picture is not None
        assert np.array_equal(trace.picture, np.asarray(image))
    save_trace(trace, tmp_path / "run.safetensors")
    trace = open_trace(tmp_path / "run.safetensors")
    header = trace.header
    noise = name == "pixart"
    assert (header.space, header.prediction_type) == (("sigma", "epsilon") if noise else ("flow", "flow"))
    assert (header.denoiser, header.encoders) == ("transformer", ("T5",) if noise else ("CLIP", "T5"))
    assert (header.words, header.layers, trace.step_maps, trace.head_maps) == ((), (), (), ())
    assert (header.guidance, trace.uncond is None) == (
        "embedded" if name == "flux" else "classifier_free",
        name == "flux",
    )
    positions = {"sd3": 333, "flux": 512, "pixart": 300}[name]
    assert sum(token.positions for token in header.tokens) == header.shapes.positions == positions
    written = "".join(token.text for token in header.tokens).replace("\u2581", "")
    assert written == ("acat" * 2 if name == "sd3" else "acat")

    sigmas = [*(step.sigma for step in header.steps), 0.0]
    after = [*trace.latents[1:], trace.final_latents]
    for call in range(len(header.steps)):
        predicted = trace.guided(call)  # velocity, or noise of which x_t = x0 + sigma eps: both lead along a line
        x0 = trace.latents[call] - np.float32(sigmas[call]) * predicted
        rounded = max(0.02, 0.002 * np.abs(x0).max())  # predictions are kept in 16 bits
        np.testing.assert_allclose(trace.predicted_x0[call], x0, atol=rounded)
        stepped = trace.latents[call] + np.float32(sigmas[call + 1] - sigmas[call]) * predicted
        np.testing.assert_allclose(after[call], stepped, atol=rounded)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_recording_without_word_maps_is_shown_and_says_why(name: str, studio: Studio) -> None:
    trace = record_run(studio, TraceRequest(replace(REQUESTS[name], guidance_scale=4.0)), context()).trace
    told = trace_payload(trace)
    assert (told["maps"], told["chips"], told["atlas"]) == (None, [], None)
    assert (told["guidance"] is None, told["request"]["cfg"]) == (name == "flux", 4.0)
    if name != "pixart":
        assert (told["schedule"][0], told["schedule"][-2], told["schedule"][-1]) == (1, 0, 1000)
    for language, words in (("en", "no word maps"), ("th", "ไม่มีแผนที่ของคำ")):
        assert words in describe_trace(trace, Translator(studio.messages, language))
    with pytest.raises(UserError, match="no_word_maps"):
        leave_out_word(studio, AblationRequest(trace, 0), context())
    with pytest.raises(UserError, match="no_word_maps"):
        check_tour(studio, TourRequest("a cat", name))
    with studio.manager.use(studio.catalog.find(name, TXT2IMG).key()) as pipe:
        frames = decode_x0(pipe, trace)
    assert trace.picture is not None
    assert abs(frames[-1].astype(int) - trace.picture).max() <= 2, "the last x0 is what the VAE decodes"


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_transformer_says_which_sampler_it_takes(name: str, studio: Studio) -> None:
    with pytest.raises(UserError, match="sampler_not_for_flow"):
        prepare_request(studio, replace(REQUESTS[name], sampler="DDIM"))
    with pytest.raises(UserError, match="sampler_for_flow_only"):
        prepare_request(studio, replace(REQUESTS["xl"], sampler="Flow Euler"))


def test_a_consistency_model_has_its_own_sampler_and_a_last_step(studio: Studio) -> None:
    with pytest.raises(UserError, match="sampler_not_for_consistency"):
        prepare_request(studio, replace(REQUESTS["lcm"], sampler="Euler"))
    with pytest.raises(UserError, match="sampler_for_consistency_only"):
        prepare_request(studio, replace(REQUESTS["sd1"], sampler="LCM"))
    with pytest.raises(UserError, match="steps_out_of_range"):
        prepare_request(studio, replace(REQUESTS["lcm"], steps=51))
    with pytest.raises(UserError, match="latents_not_for_consistency"):
        record(studio, REQUESTS["lcm"], context())
    assert len(draw_pictures(studio, replace(REQUESTS["lcm"], steps=50), context()).pictures) == 1


def test_embedded_guidance_has_no_use_for_a_negative_prompt(studio: Studio) -> None:
    with pytest.raises(UserError, match="no_negative_prompt"):
        prepare_request(studio, replace(REQUESTS["flux"], negative_prompt="a dog"))
    with pytest.raises(UserError, match="no_negative_prompt"):
        prepare_request(studio, replace(REQUESTS["lcm"], negative_prompt="a dog"))


def test_what_the_catalogue_knows_before_a_load_is_what_the_loaded_pipeline_says(studio: Studio) -> None:
    for name in FAMILIES:
        entry = studio.catalog.find(name, TXT2IMG)
        with studio.manager.use(entry.key()) as pipe:
            can = capabilities_of(pipe)
        assert (entry.default_height, entry.default_width) == can.own_size
        assert entry.size_multiple == can.factor * entry.kind.patch
        assert entry.kind.flow == (can.prediction == "flow")
        assert entry.kind.word_maps == can.cross_attention
        assert tuple(part for part in entry.kind.weights if "encoder" in part) == can.text_encoders
        assert entry.kind.embedded_guidance == (can.guidance == "embedded")


def test_the_longest_window_counts_a_prompt(studio: Studio) -> None:
    assert [count_prompt_tokens(studio, name, "a cat").limit for name in FAMILIES] == [
        77,
        77,
        77,
        77,
        77,
        256,
        512,
        300,
    ]


def heard_by_the_unet(studio: Studio, request: GenerateRequest) -> tuple[Any, torch.Tensor]:
    """What `draw_pictures` saved, and the text vectors (1 + guided, positions, width) that its U-Net was given."""
    heard: list[torch.Tensor] = []

    def listen(_unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        heard.append(kwargs["encoder_hidden_states"].float().cpu())

    with studio.manager.use(studio.catalog.find(request.model, TXT2IMG).key()) as pipe:
        handle = pipe.unet.register_forward_pre_hook(listen, with_kwargs=True)
    try:
        return draw_pictures(studio, request, context()), heard[0]
    finally:
        handle.remove()


def weighed_by_hand(vectors: torch.Tensor, widths: list[int], weights: dict[int, float]) -> torch.Tensor:
    """Each encoder's vectors times the weights of their tokens, with the mean of each encoder kept."""
    parts = []
    for part in vectors.split(widths, dim=-1):
        scaled = part.clone()
        for place, weight in weights.items():
            scaled[:, place] *= weight
        parts.append(scaled * (part.mean() / scaled.mean()))
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize(("name", "widths"), [("sd1", [32]), ("xl", [32, 32])])
def test_the_unet_is_given_the_vectors_weighed_by_hand(name: str, widths: list[int], studio: Studio) -> None:
    asked = replace(REQUESTS[name], prompt="a (cat:1.4)", negative_prompt="[dog]", guidance_scale=4.0)
    drawn, heard = heard_by_the_unet(studio, prepare_request(studio, asked))
    assert drawn.notices == ("notice.prompt_weights",)
    read = parse_infotext(read_infotext(drawn.pictures[0].path) or "").values
    assert (read["prompt"], read["negative_prompt"]) == ("a (cat:1.4)", "[dog]")

    pipe: Any = DiffusionPipeline.from_pretrained(studio.settings.models_dir / name, local_files_only=True)
    with torch.inference_mode():
        if name == "xl":
            positive, negative, *_ = pipe.encode_prompt("a cat", device="cpu", negative_prompt="dog")
        else:
            positive, negative = pipe.encode_prompt("a cat", "cpu", 1, True, "dog")
    cat, dog = range(2, 5), range(1, 4)  # a token a letter in these vocabularies
    expected = torch.cat(
        [
            weighed_by_hand(negative, widths, dict.fromkeys(dog, 1 / 1.1)),
            weighed_by_hand(positive, widths, dict.fromkeys(cat, 1.4)),
        ]
    )
    # The means are of numbers around 0, so the order in which they are added up shows in the last digits.
    error, effect = (heard - expected).norm(), (torch.cat([negative, positive]) - expected).norm()
    assert error < 1e-3 * effect

    trace = record_run(studio, TraceRequest(asked), context()).trace
    assert (trace.header.words, trace.header.request.prompt) == (("a", "cat"), "a (cat:1.4)")
    with Image.open(drawn.pictures[0].path) as picture:
        assert np.array_equal(np.asarray(picture), trace.picture)
    counts = count_prompt_tokens(studio, name, "a (cat:1.4)"), count_prompt_tokens(studio, name, "a cat")
    assert counts[0] == replace(counts[1], weighted=1)
    with pytest.raises(UserError, match="prompt_weight"):
        prepare_request(studio, replace(asked, prompt="(cat:11)"))


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_weights_reach_what_reads_clips_vectors(name: str, studio: Studio) -> None:
    """FLUX reads a T5's alone: there brackets are text like any other."""
    request = prepare_request(studio, replace(REQUESTS[name], prompt="a (cat:1.4)"))
    drawn = draw_pictures(studio, request, context())
    with Image.open(drawn.pictures[0].path) as picture:
        pixels = np.asarray(picture)
    as_text = np.array_equal(pixels, stock_picture(studio, request))
    plain = np.array_equal(pixels, stock_picture(studio, replace(request, prompt="a cat")))
    assert (as_text, plain, bool(drawn.notices)) == ((name == "flux"), False, name == "sd3")
    weighted = count_prompt_tokens(studio, name, "a (cat:1.4)").weighted
    assert weighted == (0 if name == "flux" else 1)


def test_pixart_reads_small_letters_and_comes_with_a_sentencepiece_model(studio: Studio) -> None:
    """The folder as its repository has it: no tokenizer.json, and the transformer's class by its older name."""
    folder, original = studio.settings.models_dir / "pixart-hub", studio.settings.models_dir / "pixart"
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("tokenizer"))
    save_spiece(folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["transformer"] = ["diffusers", "Transformer2DModel"]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    request = prepare_request(studio, replace(REQUESTS["pixart"], model=folder.name, prompt="A Cat"))
    drawn = draw_pictures(studio, request, context())
    with Image.open(drawn.pictures[0].path) as image:
        assert np.array_equal(np.asarray(image), stock_picture(studio, replace(request, model="pixart")))
    counts = [count_prompt_tokens(studio, name, "A Cat") for name in ("pixart", folder.name)]
    assert counts[0] == counts[1] == replace(counts[0], used=7, kept_text="A Cat", cut_text="")

    (folder / "tokenizer" / "spiece.model").write_bytes(b"\x0a\x7f")
    for use in (
        lambda: draw_pictures(studio, request, context()),
        lambda: count_prompt_tokens(studio, folder.name, "a"),
    ):
        with pytest.raises(UserError, match="model_file_broken") as caught:
            use()
        assert "spiece.model" in caught.value.values["file"]


def test_pixart_takes_no_lora_and_no_tool_that_runs_a_unet(studio: Studio, tmp_path: Path) -> None:
    files = [LoraFile(tmp_path / "x.safetensors", 1.0)]
    with (
        studio.manager.use(studio.catalog.find("pixart", TXT2IMG).key()) as pipe,
        pytest.raises(UserError, match="lora_not_for_model"),
        loras_applied(pipe, files, nullcontext(), nullcontext()),
    ):
        pass
    with pytest.raises(UserError, match="loop_not_for_model"):
        record(studio, REQUESTS["pixart"], context())


def test_a_large_text_encoder_may_be_left_out(studio: Studio) -> None:
    """Stable Diffusion 3 is often used without its T5, which is the largest part of it."""
    folder = studio.settings.models_dir / "sd3-without-t5"
    folder.mkdir()
    for part in (studio.settings.models_dir / "sd3").iterdir():
        if part.is_dir() and not part.name.endswith("_3"):
            (folder / part.name).mkdir()
            for file in part.iterdir():
                (folder / part.name / file.name).hardlink_to(file)
    index = json.loads((studio.settings.models_dir / "sd3" / "model_index.json").read_text("utf-8"))
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    request = prepare_request(studio, replace(REQUESTS["sd3"], model=folder.name))
    drawn = draw_pictures(studio, request, context())
    with Image.open(drawn.pictures[0].path) as image:
        stock = stock_picture(studio, request, text_encoder_3=None, tokenizer_3=None)
        assert np.array_equal(np.asarray(image), stock)
    assert count_prompt_tokens(studio, folder.name, "a cat").limit == 77
    header = record_run(studio, TraceRequest(request), context()).trace.header
    assert sum(token.positions for token in header.tokens) == header.shapes.positions
    assert header.encoders == ("CLIP",)
