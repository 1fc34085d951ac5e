"""The jobs of the page "Inside", on the emoji suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from webui.diffusion.ablation import locked_in
from webui.diffusion.attention import MaskedKeys, cross_attention_layers
from webui.diffusion.bundled import find_bundled_trace
from webui.diffusion.generate import generate
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace, open_trace
from webui.errors import UserError
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobContext, JobState, Published
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.inside import (
    AblationRequest,
    LockInRequest,
    TraceRequest,
    leave_out_word,
    prepare_trace,
    record_run,
    score_steps,
)
from webui.tasks.txt2img import PreviewFrame

PATIENCE = 300.0
REQUEST = GenerateRequest("a cat on a blue background", steps=4, seed=7, sampler="DDIM")
T = TypeVar("T")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    opened = open_studio(Settings(data_dir=tmp_path_factory.mktemp("data")))
    yield opened
    opened.close()


def done(studio: Studio, work: Callable[[JobContext], T]) -> T:
    return studio.jobs.submit(work, owner="ann", kind="trace").result(PATIENCE)


@pytest.fixture(scope="module")
def trace(studio: Studio) -> Trace:
    return done(studio, lambda context: record_run(studio, TraceRequest(REQUEST), context)).trace


def test_the_job_records_what_generate_draws(studio: Studio, trace: Trace) -> None:
    with studio.manager.use(studio.catalog.find("emoji", TXT2IMG).key()) as pipe:
        picture = generate(pipe, trace.header.request).pictures[0].image
    assert np.array_equal(trace.picture, np.asarray(picture))  # type: ignore[arg-type]
    assert trace.header.r_squared > 0.5
    assert trace.header.request.guidance_scale == 2.0


def test_previews_and_progress_are_shown_meanwhile(studio: Studio) -> None:
    job = studio.jobs.submit(
        lambda context: record_run(studio, TraceRequest(REQUEST, all_heads=True), context), owner="ann", kind="trace"
    )
    events = list(job.events(PATIENCE))
    assert any(isinstance(event, Published) and isinstance(event.value, PreviewFrame) for event in events)
    assert job.result(PATIENCE).trace.head_maps


def test_a_cancelled_recording_keeps_its_calls(studio: Studio) -> None:
    request = TraceRequest(replace(REQUEST, steps=150))
    kept: list[Trace] = []

    def work(context: JobContext) -> None:
        def stop_in_the_second(step: int, total: int, phase: str) -> None:
            if phase == "phase.denoising" and step == 2:
                context.cancelled.set()

        context.progress = stop_in_the_second  # type: ignore[method-assign]
        kept.append(record_run(studio, request, context).trace)

    job = studio.jobs.submit(work, owner="ann", kind="trace")
    list(job.events(PATIENCE))
    assert job.state in (JobState.CANCELLED, JobState.DONE)
    assert kept[0].header.stopped
    assert (len(kept[0].header.steps), kept[0].header.planned_calls) == (2, 150)


def test_several_pictures_are_refused(studio: Studio) -> None:
    with pytest.raises(UserError) as caught:
        prepare_trace(studio, TraceRequest(replace(REQUEST, batch_size=2)))
    assert caught.value.key == "error.trace_one_picture"


def test_leaving_out_the_object_changes_more_than_an_article(studio: Studio, trace: Trace) -> None:
    words = trace.header.words
    cat, article = (
        done(studio, lambda context, word=word: leave_out_word(studio, AblationRequest(trace, word), context))
        for word in (words.index("cat"), words.index("on"))
    )
    assert cat.word == "cat"
    assert cat.change.shape == cat.attention.shape == (16, 16)
    assert cat.change.mean() > article.change.mean() > 0
    assert cat.correlation is not None
    assert -1 <= cat.correlation <= 1
    assert 0 <= cat.overlap <= 1
    assert cat.picture.shape == (128, 128, 3)


def test_masking_no_word_changes_nothing_and_masked_words_get_no_attention(studio: Studio) -> None:
    with studio.manager.use(studio.catalog.find("emoji", TXT2IMG).key()) as pipe:
        layers = cross_attention_layers(pipe.unet)
        request = replace(REQUEST, steps=2, guidance_scale=2.0)
        plain = np.asarray(generate(pipe, request).pictures[0].image, int)
        with MaskedKeys(layers, 1, ()):
            unmasked = np.asarray(generate(pipe, request).pictures[0].image, int)
        assert np.abs(plain - unmasked).max() <= 1, "an attention kernel with a mask rounds differently"

        # Masked positions cannot matter: their values may be anything.
        def spoilt(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
            spoilt_output = output.clone()
            spoilt_output[-1:, 2] = 1e3
            return spoilt_output

        pictures = []
        for spoil in (False, True):
            hooks = [layer.attention.to_v.register_forward_hook(spoilt) for layer in layers] if spoil else []
            with MaskedKeys(layers, 1, (2,)):
                pictures.append(np.asarray(generate(pipe, request).pictures[0].image, int))
            for hook in hooks:
                hook.remove()
        assert np.array_equal(*pictures)
        assert np.abs(pictures[0] - plain).max() > 5
        assert not any(layer.attention._forward_pre_hooks for layer in layers)


def test_what_cannot_be_ablated_is_told(studio: Studio, trace: Trace) -> None:
    stopped = replace(trace, header=replace(trace.header, stopped=True))
    foreign = replace(trace, header=replace(trace.header, layers=trace.header.layers[:-1]))
    unknown = replace(trace, header=replace(trace.header, request=replace(REQUEST, model="gone")))
    for broken, word, key in (
        (stopped, 0, "error.trace_unfinished"),
        (trace, 99, "error.no_such_word"),
        (foreign, 0, "error.trace_of_other_model"),
        (unknown, 0, "error.unknown_model"),
    ):
        request = AblationRequest(broken, word)
        with pytest.raises(UserError) as caught:
            done(studio, lambda context, request=request: leave_out_word(studio, request, context))
        assert caught.value.key == key


def test_a_picture_locks_in_on_its_prompt(studio: Studio) -> None:
    trace = open_trace(find_bundled_trace("cat-blue"))
    request = LockInRequest(trace, ("a car on a red background", "", "a car on a red background"))
    found = done(studio, lambda context: score_steps(studio, request, context))
    assert found.texts == ("a cat on a blue background", "a car on a red background")
    assert found.scores.shape == (12, 2)
    assert found.scores[-1, 0] > found.scores[-1, 1]
    assert found.call is not None
    assert found.call <= 11


def test_locking_in_means_to_the_end() -> None:
    assert locked_in(np.array([[0.1, 0.2], [0.3, 0.2], [0.1, 0.2], [0.3, 0.2], [0.4, 0.2]])) == 3
    assert locked_in(np.array([[0.3, 0.2, 0.1]])) == 0
    assert locked_in(np.array([[0.1, 0.2]])) is None
    assert locked_in(np.array([[0.1], [0.2]])) is None


def test_the_last_decoded_x0_is_the_picture(studio: Studio, tmp_path: Path) -> None:
    from webui.diffusion.ablation import decode_x0

    trace = open_trace(find_bundled_trace("cat-blue"))
    with studio.manager.use(studio.catalog.find("emoji", TXT2IMG).key()) as pipe:
        frames = decode_x0(pipe, trace)
    assert frames.shape == (12, 128, 128, 3)
    assert trace.picture is not None
    difference = np.abs(frames[-1].astype(int) - trace.picture.astype(int))
    assert difference.mean() < 3, "the last step only removes what noise is left"
