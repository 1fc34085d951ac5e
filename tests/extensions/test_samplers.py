"""Samplers that extensions bring along: every door has them, and what they break is charged to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from extensions.xyz_plot import axes, grid
from webui.api.routes import api_routes
from webui.cli import run
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SHIPPED_SAMPLERS, Sampler
from webui.errors import UserError
from webui.extensions.loading import load_extensions
from webui.extensions.samplers import charged_sampler
from webui.hooks import Hooks
from webui.pages.frame import build_page
from webui.pages.saved_form import usable_values
from webui.store.infotext import parse_infotext, read_infotext, request_from_infotext
from webui.studio import Studio
from webui.tasks.inside import AblationRequest, TraceRequest, leave_out_word, record_run
from webui.tasks.latent_walks import interpolate_seeds
from webui.tasks.recordings import record, recording_of_trace, resume
from webui.tasks.txt2img import DrawnPictures, draw_pictures, prepare_request

Write = Callable[..., Path]
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "extensions.md").read_text(encoding="utf-8")
EXPONENTIAL, TRAILING = "DPM++ 2M Exponential", "Euler trailing"
REQUEST = GenerateRequest("a cat", model="tiny", seed=5, steps=3, sampler=EXPONENTIAL, guidance_scale=7.5)


def documented() -> str:
    """The code that the docs give for a sampler."""
    (code,) = re.findall(r"## A sampler\n.*?```python\n(.*?)```", DOCS, re.DOTALL)
    return str(code)


@pytest.fixture
def with_samplers(studio: Studio, write: Write) -> Studio:
    """The studio after the extension of the docs was put into the user's folder."""
    write("more", documented())
    return load_extensions(studio)[0]


def done(studio: Studio, work: Callable[..., Any], *values: Any) -> Any:
    return studio.jobs.submit(partial(work, studio, *values), owner="me", kind="x").result(120)


def pixels(drawn: DrawnPictures) -> np.ndarray:
    return np.asarray(Image.open(drawn.pictures[0].path))


def stock(studio: Studio, scheduler: Callable[[Any], Any]) -> np.ndarray:
    """What a reader of diffusers' documentation would draw."""
    pipe = StableDiffusionPipeline.from_pretrained(studio.settings.models_dir / "tiny", local_files_only=True)
    pipe.scheduler = scheduler(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(5)]
    return np.asarray(pipe("a cat", num_inference_steps=3, generator=generator).images[0])


def test_pictures_are_the_schedulers_own(with_samplers: Studio) -> None:
    def exponential(config: Mapping[str, Any]) -> Any:
        own = {"use_exponential_sigmas": True, "final_sigmas_type": "zero"}
        return diffusers.DPMSolverMultistepScheduler.from_config(config, **own)

    def trailing(config: Mapping[str, Any]) -> Any:
        return diffusers.EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing")

    for name, scheduler in ((EXPONENTIAL, exponential), (TRAILING, trailing)):
        drawn = pixels(done(with_samplers, draw_pictures, replace(REQUEST, sampler=name)))
        assert np.array_equal(drawn, stock(with_samplers, scheduler)), name
    assert not with_samplers.hooks.faults("more")


def test_a_picture_carries_its_name_and_gives_it_back(with_samplers: Studio, studio: Studio) -> None:
    infotext = done(with_samplers, draw_pictures, REQUEST).pictures[0].infotext
    assert f"Sampler: {EXPONENTIAL}," in infotext
    read = partial(parse_infotext, samplers=with_samplers.samplers)
    assert read(infotext).values["sampler"] == EXPONENTIAL
    of_a1111 = read("a cat\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Exponential, Seed: 5")
    assert of_a1111.values["sampler"] == EXPONENTIAL
    without = parse_infotext(infotext, samplers=studio.samplers)
    assert [error.key for error in without.ignored] == ["infotext.unknown_sampler"]
    assert request_from_infotext(infotext).sampler == EXPONENTIAL, "what was drawn is said without the extension too"
    kept = asdict(REQUEST)
    assert usable_values(kept, with_samplers)["sampler"] == EXPONENTIAL
    assert "sampler" not in usable_values(kept, studio)


def test_the_page_rest_and_the_plot_offer_it(studio: Studio, write: Write) -> None:
    write("more", documented())
    studio, extensions = load_extensions(studio)
    config = build_page(studio, extensions).get_config_file()
    offered = {
        component["props"].get("elem_id") or component["props"].get("label"): component["props"]["choices"]
        for component in config["components"]
        if (TRAILING, TRAILING) in component["props"].get("choices", ())
    }
    assert {"sampler", "inside-sampler", "inside-other-sampler", "latents-run-sampler", "Sampler"} <= offered.keys()
    client = TestClient(Starlette(routes=api_routes(studio)))
    assert TRAILING in client.get("/api/v1/samplers").json()["samplers"]
    values = {"prompt": "a cat", "model": "tiny", "steps": 2, "seed": 1, "sampler": TRAILING}
    assert client.post("/api/v1/generate", json=values).json()["parameters"]["sampler"] == TRAILING
    plot = next(api for api in extensions.loaded if api.id == "xyz_plot")
    axis = axes.read_axis("sampler", f"Euler, {TRAILING}")
    planned = grid.plan(plot, REQUEST, grid.Grid((axis, axes.read_axis("seed", "1"))))
    assert [request.sampler for request in planned] == ["Euler", TRAILING]


def test_the_command_line_draws_with_it(
    studio: Studio, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("more", documented())
    data, out = studio.settings.data_dir, studio.settings.data_dir / "cat.png"
    asked = ["a cat", "--data-dir", str(data), "--model", "tiny", "--steps", "2", "--sampler", TRAILING]
    assert run(["generate", *asked, "--out", str(out)]) == 0, capsys.readouterr().err
    assert request_from_infotext(read_infotext(out)).sampler == TRAILING
    picture = data / "recorded.png"
    assert run(["trace", *asked, "--out", str(data / "run.safetensors"), "--image", str(picture)]) == 0
    assert request_from_infotext(read_infotext(picture)).sampler == TRAILING
    monkeypatch.setenv("DIFFUSCOPE_SAFE_MODE", "1")
    assert run(["generate", *asked, "--out", str(out)]) == 2
    assert f'There is no sampler "{TRAILING}"' in capsys.readouterr().err


def test_runs_are_recorded_resumed_and_walked_with_it(with_samplers: Studio) -> None:
    trace = done(with_samplers, record_run, TraceRequest(REQUEST)).trace
    assert trace.header.space == "alpha"
    assert done(with_samplers, leave_out_word, AblationRequest(trace, 0)).picture.shape == trace.picture.shape
    assert np.array_equal(done(with_samplers, recording_of_trace, trace).run.picture, trace.picture)
    kept = done(with_samplers, record, REQUEST)
    assert kept.run.steps == (0, 1, 2)
    assert np.array_equal(done(with_samplers, resume, kept, 1, None), kept.run.picture)
    between = done(with_samplers, interpolate_seeds, replace(REQUEST, steps=1), 6, 2)
    assert len(between.slerp) == 2


BROKEN = """
def register(api):
    def raises(where):
        def make(config):
            from diffusers import EulerDiscreteScheduler
            def fail(*values, **options):
                raise {"step": ValueError, "set_timesteps": SystemExit}[where]("broken in " + where)
            scheduler = EulerDiscreteScheduler.from_config(config)
            setattr(scheduler, where, fail)
            return scheduler
        return make
    def refuses(config):
        raise api.error("no")
    api.add_translations({"en": {"no": "Not with this model."}, "th": {"no": "ใช้กับโมเดลนี้ไม่ได้"}})
    api.add_sampler("In step", raises("step"), space="sigma")
    api.add_sampler("In timesteps", raises("set_timesteps"), space="sigma")
    api.add_sampler("No class", "NoSuchScheduler", space="alpha")
    api.add_sampler("Unknown option", "DDIMScheduler", space="alpha", options={"nothing": 1})
    api.add_sampler("No scheduler", lambda config: object(), space="alpha")
    api.add_sampler("Refuses", refuses, space="alpha")
"""


def test_one_that_fails_is_charged_by_name_and_told_to_who_asked(studio: Studio, write: Write) -> None:
    write("broken", BROKEN)
    studio, _ = load_extensions(studio)
    failing = {
        "In step": "broken in step", "In timesteps": "broken in set_timesteps", "No class": "NoSuchScheduler",
        "Unknown option": "nothing", "No scheduler": "object is no scheduler of diffusers",
    }  # fmt: skip
    for name, reason in failing.items():
        with pytest.raises(UserError) as told:
            done(studio, draw_pictures, replace(REQUEST, sampler=name))
        assert told.value.key == "error.extension_sampler", name
        for language in ("en", "th"):
            said = studio.messages.error(language, told.value)
            assert reason in said
            assert name in said
            assert "broken" in said
    faults = {fault.where: fault for fault in studio.hooks.faults("broken")}
    assert list(faults) == [f"sampler {name}" for name in failing]
    assert all(fault.count == 1 for fault in faults.values())
    with pytest.raises(UserError) as refused:
        done(studio, draw_pictures, replace(REQUEST, sampler="Refuses"))
    assert studio.messages.error("en", refused.value) == "Not with this model."
    assert len(studio.hooks.faults("broken")) == len(failing)
    assert len(done(studio, draw_pictures, replace(REQUEST, sampler="Euler")).pictures) == 1


def test_want_of_memory_is_no_fault_of_the_extensions() -> None:
    """Whoever lends the model makes room then, and draws again."""

    def make(_: Mapping[str, Any]) -> Any:
        raise torch.OutOfMemoryError

    hooks = Hooks()
    sampler = charged_sampler(hooks, "mine", Sampler("Hungry", None, make, {}, "alpha"))
    with pytest.raises(torch.OutOfMemoryError):
        SHIPPED_SAMPLERS.and_also(sampler).build("Hungry", {})
    assert not hooks.faults("mine")


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ('"euler A", "DDIMScheduler", space="alpha"', "there is a sampler 'euler A' already"),
        ('"", "DDIMScheduler", space="alpha"', "name is 1 to 60"),
        ('"a\\nb", "DDIMScheduler", space="alpha"', "name is 1 to 60"),
        ('"x" * 61, "DDIMScheduler", space="alpha"', "name is 1 to 60"),
        ('"Mine", "DDIMScheduler", space="beta"', "space is one of alpha, sigma, flow"),
        ('"Mine", "DDIMScheduler", space="alpha", calls_per_step=0', "at least once"),
        ('"Mine", lambda config: None, space="alpha", options={"a": 1}', "options are for a class"),
    ],
)
def test_one_that_could_not_be_shown_is_refused_at_the_start(studio: Studio, write: Write, call: str, why: str) -> None:
    write("wrong", f"def register(api):\n    api.add_sampler({call})")
    loaded, extensions = load_extensions(studio)
    (state,) = [state for state in extensions.states if state.id == "wrong"]
    assert state.state == "refused"
    assert why in state.traceback
    assert loaded.samplers == studio.samplers


def test_of_two_with_one_name_the_first_stays_and_the_second_is_told(studio: Studio, write: Write) -> None:
    code = 'def register(api):\n    api.add_sampler("{}", "{}", space="alpha")'
    write("a_first", code.format("Mine", "DDIMScheduler"))
    write("b_second", code.format("MINE", "UniPCMultistepScheduler"))
    studio, _ = load_extensions(studio)
    assert [name for name in studio.samplers.names() if name.casefold() == "mine"] == ["Mine"]
    assert not studio.hooks.faults("a_first")
    assert "there is a sampler 'MINE' already" in studio.hooks.faults("b_second")[0].traceback


def test_a_flow_sampler_is_for_flow_models_alone(studio: Studio, write: Write) -> None:
    write(
        "flow", 'def register(api):\n    api.add_sampler("Flow Heun", "FlowMatchHeunDiscreteScheduler", space="flow")'
    )
    studio, _ = load_extensions(studio)
    assert "Flow Heun" in studio.samplers.names_for("flow")
    with pytest.raises(UserError) as refused:
        prepare_request(studio, replace(REQUEST, sampler="Flow Heun"))
    assert refused.value.key == "error.sampler_for_flow_only"
