"""Recording changes nothing, misses nothing, and says what the samplers themselves say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention

from tests.diffusion.conftest import load_pipeline, recorded
from webui.diffusion.attention import MaskedKeys, cross_attention_layers
from webui.diffusion.generate import StepView, generate
from webui.diffusion.recorder import BatchRecording, Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.samplers import SAMPLERS
from webui.diffusion.trace import open_trace, save_trace
from webui.errors import UserError

TINY = GenerateRequest("a cat", negative_prompt="a dog", steps=3, seed=7, guidance_scale=4.0)
CASES = [
    pytest.param({}, id="square, guided, one"),
    pytest.param({"width": 24, "height": 16, "guidance_scale": 1.0, "batch_size": 4}, id="wide, unguided, four"),
    pytest.param({"width": 16, "height": 40, "batch_size": 4}, id="tall, guided, four"),
]


def pixels(pipe: StableDiffusionPipeline, request: GenerateRequest, recorder: Recorder | None = None) -> list[bytes]:
    return [picture.image.tobytes() for picture in generate(pipe, request, recorder=recorder).pictures]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_traced_picture_equals_the_untraced_one(
    name: str, case: dict[str, Any], tiny_pipe: StableDiffusionPipeline
) -> None:
    request = replace(TINY, sampler=name, steps=2, **case)
    recorder = Recorder(all_heads=True)
    assert pixels(tiny_pipe, request, recorder) == pixels(tiny_pipe, request)
    assert len(recorder.traces) == request.batch_size
    for trace in recorder.traces:
        assert len(trace.header.steps) == trace.header.planned_calls
        assert not trace.header.stopped


@pytest.fixture(scope="module")
def emoji_pipe(emoji_suite: Path) -> StableDiffusionPipeline:
    pipe = load_pipeline(emoji_suite / "txt2img").to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_traced_picture_equals_the_untraced_one_on_trained_weights(
    name: str, emoji_pipe: StableDiffusionPipeline
) -> None:
    request = GenerateRequest("แมว and a car", steps=2, seed=11, sampler=name, guidance_scale=2.0)
    assert pixels(emoji_pipe, request, Recorder(all_heads=True)) == pixels(emoji_pipe, request)


@contextmanager
def own_x0(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[np.ndarray]]:
    """Notes the `pred_original_sample` that the sampler's scheduler itself returns."""
    import diffusers

    noted: list[np.ndarray] = []
    scheduler_class = getattr(diffusers, SAMPLERS[name].scheduler)
    step = scheduler_class.step

    def noting(self: Any, *args: Any, return_dict: bool = True, **options: Any) -> Any:
        result = step(self, *args, return_dict=True, **options)
        x0 = getattr(result, "pred_original_sample", None)
        if x0 is not None:
            noted.append(x0.numpy().astype(np.float16))
        return result if return_dict else (result.prev_sample,)

    noting.__wrapped__ = step  # type: ignore[attr-defined] # the pipeline reads the signature
    with monkeypatch.context() as patch:
        patch.setattr(scheduler_class, "step", noting)
        yield noted


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "name",
    ["DDIM", "DDPM", "Euler", "Euler Karras", "Euler a", "Heun", "Heun Karras", "DPM2", "DPM2 Karras", "DPM2 a"],
)
def test_x0_is_the_schedulers_own(
    name: str, prediction_type: str, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = load_pipeline(tiny_pipeline_folder)
    pipe.scheduler.register_to_config(prediction_type=prediction_type)
    with own_x0(name, monkeypatch) as noted:
        trace = recorded(pipe, replace(TINY, sampler=name, steps=5))
    assert trace.header.prediction_type == prediction_type
    calls = 5 if SAMPLERS[name].calls_per_step == 1 else 9  # the last step of Heun and DPM2 needs one call only
    assert len(noted) == len(trace.predicted_x0) == calls
    for ours, theirs in zip(trace.predicted_x0, noted, strict=True):
        # The same formula in another order of operations: it may round the other way in the last place of float16.
        np.testing.assert_allclose(ours, theirs[0], rtol=2**-10, atol=2**-12)


@pytest.mark.parametrize("name", ["DPM++ 2M Karras", "PLMS", "Heun", "Euler a"])
def test_the_rows_are_what_the_step_showed(name: str, tiny_pipe: StableDiffusionPipeline) -> None:
    views: list[StepView] = []
    recorder = Recorder()
    request = replace(TINY, sampler=name, batch_size=2)
    generate(tiny_pipe, request, on_step=views.append, recorder=recorder)
    for picture, trace in enumerate(recorder.traces):
        assert trace.header.seed == 7 + picture
        for call, view in enumerate(views):
            assert np.array_equal(trace.latents[call], view.latents[picture].numpy())
            assert np.array_equal(trace.predicted_x0[call], view.predicted_x0[picture].numpy().astype(np.float16))
            np.testing.assert_allclose(trace.guided(call), view.model_output[picture].numpy(), atol=0.02)
            assert trace.header.steps[call].timestep == view.timestep


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("DDIM", [(1, 1), (2, 1), (3, 1)]),
        ("PLMS", [(1, 1), (1, 2), (2, 1), (3, 1)]),
        ("Heun", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]),
        ("DPM2", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]),
    ],
)
def test_second_calls_of_a_step_are_told_apart(
    name: str, places: list[tuple[int, int]], tiny_pipe: StableDiffusionPipeline
) -> None:
    steps = recorded(tiny_pipe, replace(TINY, sampler=name)).header.steps
    assert [(step.step, step.order) for step in steps] == places


def reference_maps(pipe: StableDiffusionPipeline, request: GenerateRequest) -> list[dict[str, torch.Tensor]]:
    """Per U-Net call and layer (heads, queries, positions), by diffusers' own `get_attention_scores`."""
    calls: list[dict[str, torch.Tensor]] = []

    class Keeping:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(
            self, attn: Attention, hidden_states: torch.Tensor, encoder_hidden_states: Any = None, **_: Any
        ) -> torch.Tensor:
            context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            query, key, value = (
                attn.head_to_batch_dim(layer(x))
                for layer, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
            )
            scores = attn.get_attention_scores(query, key)
            if encoder_hidden_states is not None:
                if not calls or self.name in calls[-1]:
                    calls.append({})
                calls[-1][self.name] = scores.unflatten(0, (-1, attn.heads))[-1]
            return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(scores, value)))  # type: ignore[no-any-return]

    stock = dict(pipe.unet.attn_processors)
    pipe.unet.set_attn_processor({name: Keeping(name.removesuffix(".processor")) for name in stock})
    try:
        generate(pipe, request)
    finally:
        pipe.unet.set_attn_processor(stock)
    return calls


def test_the_maps_are_diffusers_own_probabilities(emoji_pipe: StableDiffusionPipeline) -> None:
    request = GenerateRequest("a cat and a car", steps=2, seed=3, guidance_scale=2.0, width=160, height=96)
    calls = reference_maps(emoji_pipe, request)
    trace = recorded(emoji_pipe, request, all_heads=True)
    names = [layer.name for layer in trace.header.layers]
    assert [list(call) for call in calls] == [names, names], "in the order in which they compute"
    rows = len(trace.header.tokens) - 1
    for call, by_layer in enumerate(calls):
        for level, place in enumerate(trace.header.levels):
            members = [layer.name for layer in trace.header.layers if layer.height == place.height]
            mean = torch.stack([by_layer[name].mean(dim=0) for name in members]).mean(dim=0)
            wanted = torch.cat([mean[:, :rows], mean[:, rows:].sum(dim=1, keepdim=True)], dim=1).T.numpy()
            got = trace.level_map(call, level).reshape(rows + 1, -1)
            np.testing.assert_allclose(got, wanted, atol=wanted.max() / 255)
        for index, layer in enumerate(trace.header.layers):
            heads = by_layer[layer.name][:, :, 2].reshape(layer.heads, layer.height, layer.width)
            if max(layer.height, layer.width) <= 16:
                np.testing.assert_allclose(trace.head_map(call, index)[:, 2], heads, atol=float(heads.max()) / 255)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_all_rows_together_hold_all_the_attention(guidance_scale: float, tiny_pipe: StableDiffusionPipeline) -> None:
    trace = recorded(tiny_pipe, replace(TINY, guidance_scale=guidance_scale), all_heads=True)
    assert (trace.uncond is None) == (guidance_scale == 1.0)
    for level, mean in enumerate(trace.mean_maps):
        assert np.abs(mean.astype(np.float32).sum(axis=0) - 1).max() < 0.005
        assert np.abs(trace.level_map(1, level).sum(axis=0) - 1).max() < 0.02
    for layer in range(len(trace.header.layers)):
        assert np.abs(trace.head_map(2, layer).sum(axis=1) - 1).max() < 0.02


def test_two_users_record_one_model_at_once(tiny_pipe: StableDiffusionPipeline) -> None:
    requests = [replace(TINY, seed=seed, prompt=prompt, steps=8) for seed, prompt in enumerate(["a cat", "two owls"])]
    alone = [recorded(tiny_pipe, request) for request in requests]
    with ThreadPoolExecutor(3) as pool:
        watched = [pool.submit(recorded, tiny_pipe, request) for request in requests]
        unwatched = pool.submit(pixels, tiny_pipe, requests[0])
        together = [future.result() for future in watched]
    for one, other in zip(alone, together, strict=True):
        assert one.header == other.header
        assert np.array_equal(one.latents, other.latents)
        for mine, theirs in zip(one.mean_maps, other.mean_maps, strict=True):
            assert np.array_equal(mine, theirs)
    assert unwatched.result() == pixels(tiny_pipe, requests[0])


@pytest.mark.parametrize("instrument", ["recording", "mask"])
def test_a_hook_removed_while_another_thread_is_about_to_call_it_lets_that_call_pass(
    instrument: str, tiny_pipe: StableDiffusionPipeline
) -> None:
    """Torch asks only when a hook's turn comes whether it takes keyword arguments: one removed by then gets none."""
    alone = pixels(tiny_pipe, TINY)
    layers = cross_attention_layers(tiny_pipe.unet)
    watched: BatchRecording | MaskedKeys
    if instrument == "recording":
        request = replace(TINY, width=16, height=16)
        sampler = SAMPLERS[request.sampler]
        watched = BatchRecording(Recorder(), tiny_pipe, request, sampler, tiny_pipe.scheduler, (7,))
        first = tiny_pipe.unet.register_forward_hook(lambda *_: watched.__exit__(None, None, None))
    else:
        watched = MaskedKeys(layers, 1, (1,))
        first = layers[0].attention.register_forward_pre_hook(lambda *_: watched.__exit__())
    watched.__enter__()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(pixels, tiny_pipe, TINY).result() == alone
    first.remove()
    assert hooks(tiny_pipe) == 0


def hooks(pipe: StableDiffusionPipeline) -> int:
    return sum(len(module._forward_hooks) for module in pipe.unet.modules())


def test_a_stopped_run_keeps_what_was_recorded_and_opens(tiny_pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    cancel, recorder = threading.Event(), Recorder(all_heads=True)

    def stop_in_the_fourth(view: StepView) -> None:
        if view.step == 4:
            cancel.set()

    result = generate(tiny_pipe, replace(TINY, steps=9), on_step=stop_in_the_fourth, cancel=cancel, recorder=recorder)
    assert result.stopped
    (trace,) = recorder.traces
    save_trace(trace, tmp_path / "run.safetensors")
    opened = open_trace(tmp_path / "run.safetensors")
    assert opened.header.stopped
    assert (len(opened.header.steps), opened.header.planned_calls) == (4, 9)
    assert opened.picture is None
    whole = recorded(tiny_pipe, replace(TINY, steps=9))
    assert np.array_equal(opened.latents, whole.latents[:4])
    assert hooks(tiny_pipe) == 0


def test_a_run_stopped_between_unet_and_scheduler_drops_the_half_call(tiny_pipe: StableDiffusionPipeline) -> None:
    cancel, recorder, calls = threading.Event(), Recorder(), 0

    def stop_in_the_third(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            cancel.set()

    hook = tiny_pipe.unet.register_forward_hook(stop_in_the_third)
    try:
        generate(tiny_pipe, replace(TINY, steps=9), cancel=cancel, recorder=recorder)
    finally:
        hook.remove()
    assert len(recorder.traces[0].header.steps) == len(recorder.traces[0].latents) == 2


def test_every_batch_leaves_its_traces(tiny_pipe: StableDiffusionPipeline) -> None:
    recorder = Recorder()
    generate(tiny_pipe, replace(TINY, batch_size=2, batch_count=2), recorder=recorder)
    assert [trace.header.seed for trace in recorder.traces] == [7, 8, 9, 10]
    assert hooks(tiny_pipe) == 0


def test_attention_slicing_loses_no_map(tiny_pipeline_folder: Path) -> None:
    """It replaces every processor, which is what a recorder that is a processor would not survive."""
    pipe = load_pipeline(tiny_pipeline_folder)
    plain = recorded(pipe, TINY)
    pipe.enable_attention_slicing(1)
    sliced = recorded(pipe, TINY)
    for one, other in zip(plain.mean_maps, sliced.mean_maps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


class _Fused:
    """A processor with a projection of its own, as fused or quantised attention has."""

    def __call__(self, attn: Attention, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        return hidden_states


def test_attention_that_cannot_be_seen_is_told(tiny_pipeline_folder: Path) -> None:
    pipe = load_pipeline(tiny_pipeline_folder)
    layers = cross_attention_layers(pipe.unet)
    layers[0].attention.set_processor(_Fused())
    recorder = Recorder()
    with pytest.raises(UserError) as caught:
        generate(pipe, TINY, recorder=recorder)
    assert caught.value.key == "error.recording_incomplete"
    assert caught.value.values == {"seen": len(layers) - 1, "expected": len(layers)}
    assert recorder.traces == ()
    assert hooks(pipe) == 0
    generate(pipe, TINY)  # without a recorder it is no matter


def test_layers_that_only_attend_to_the_text_are_all_found(emoji_pipe: StableDiffusionPipeline) -> None:
    names = [layer.name for layer in cross_attention_layers(emoji_pipe.unet)]
    assert len(names) == 8
    assert sum(name.endswith("attn1") for name in names) == 2, "blocks with only_cross_attention"


def test_a_long_prompt_is_recorded_and_what_is_cut_is_said(tiny_pipe: StableDiffusionPipeline) -> None:
    header = recorded(tiny_pipe, replace(TINY, prompt="cat " * 40)).header
    assert [token.kind for token in header.tokens][:: len(header.tokens) - 1] == ["start", "end"]
    assert sum(token.positions for token in header.tokens) == 77
    assert header.cut_text.strip().startswith("cat")
    empty = recorded(tiny_pipe, replace(TINY, prompt="")).header
    assert [token.kind for token in empty.tokens] == ["start", "end", "padding"]
    assert empty.words == ()


def test_punctuation_belongs_to_no_word(tiny_pipe: StableDiffusionPipeline) -> None:
    header = recorded(tiny_pipe, replace(TINY, prompt=r"Cat, dog; \(owl\)")).header
    assert header.words == ("cat", "dog", "owl")
    assert [token.text for token in header.tokens if token.kind == "word" and token.word is None] == [
        ",",
        ";",
        "(",
        ")",
    ]
    for word, text in enumerate(header.words):
        assert "".join(header.tokens[row].text for row in header.rows_of_word(word)) == text
