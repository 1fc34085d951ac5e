"""The page "Inside": milliseconds from a move of the scrubber to the painted frame, and the weight of a run's data."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.driver import CreateDriver
from tests.e2e.served import launch_chromium, serve
from webui.diffusion.bundled import bundled_traces
from webui.diffusion.trace import Trace, open_trace, save_trace
from webui.diffusion.trace_header import TraceLevel, TraceShapes
from webui.views.inside_payload import as_json, trace_payload

STEPS = 50
SD = 64
_SCRUB = """
async () => {
  const range = document.querySelector("#inside-scrub"), times = [];
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))));
  for (let move = 0; move < 60; move += 1) {
    await painted();
    const started = performance.now();
    range.value = 1 + ((move * 7) % Number(range.max));
    range.dispatchEvent(new Event("input", { bubbles: true }));
    times.push(await painted() - started);
  }
  return times;
}
"""


def run() -> dict[str, object]:
    """Scrub a 50-step run of the emoji model's size, and one of Stable Diffusion 1.x's, in a real Chromium."""
    source = open_trace(next(iter(bundled_traces().values())))
    runs = {"emoji": stretched(source, STEPS), "sd": enlarged(stretched(source, STEPS), SD)}
    figures: dict[str, object] = {"steps": STEPS}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        served = serve(Path(folder) / "data", Path(folder) / "models")
        browser = launch_chromium(playwright.chromium)
        try:
            for name, trace in runs.items():
                path = Path(folder) / f"{name}.safetensors"
                save_trace(trace, path)
                figures[f"{name}_page_data_mb"] = round(len(as_json(trace_payload(trace)).encode()) / 1e6, 3)
                figures[f"{name}_trace_file_mb"] = round(path.stat().st_size / 1e6, 3)
                page = browser.new_context(locale="en-US").new_page()
                times = scrub(page, served.url, path)
                figures[f"{name}_scrub_ms_median"] = round(statistics.median(times), 1)
                figures[f"{name}_scrub_ms_p95"] = round(float(np.percentile(times, 95)), 1)
                page.close()
        finally:
            browser.close()
            served.stop()
    return figures


def scrub(page: Page, url: str, path: Path) -> list[float]:
    """Open a trace file on the page, and move its scrubber about; milliseconds from the move to the painted frame."""
    CreateDriver(page, url).open()
    page.get_by_role("tab", name="Inside", exact=True).click()
    expect(page.locator("#inside-x0")).to_be_visible(timeout=120_000)
    with page.expect_file_chooser() as chooser:
        page.locator("#inside-open").click()
    chooser.value.set_files(path)
    expect(page.locator("#inside-scrub")).to_have_attribute("max", str(STEPS), timeout=120_000)
    times: list[float] = page.evaluate(_SCRUB)
    return times


def stretched(trace: Trace, steps: int) -> Trace:
    """The same run with its calls repeated in order until there are `steps`, without single heads."""
    places = np.linspace(0, len(trace.header.steps) - 1, steps).round().astype(int)
    rows = tuple(replace(trace.header.steps[place], step=number + 1) for number, place in enumerate(places))
    request = replace(trace.header.request, steps=steps)
    return replace(
        trace,
        header=replace(trace.header, steps=rows, planned_calls=steps, request=request),
        latents=trace.latents[places],
        predicted_x0=trace.predicted_x0[places],
        cond=trace.cond[places],
        uncond=None if trace.uncond is None else trace.uncond[places],
        step_maps=tuple(maps[places] for maps in trace.step_maps),
        step_scales=trace.step_scales[places],
        head_maps=(),
        head_scales=None,
    )


def enlarged(trace: Trace, side: int) -> Trace:
    """The run at Stable Diffusion's sizes: everything tiled, with noise over it, so that it packs no better."""
    random = np.random.default_rng(0)
    times = side // trace.header.shapes.latent_height
    pixels = trace.header.shapes.height * times

    def tiled(array: np.ndarray) -> np.ndarray:
        whole = np.tile(array, (*(1,) * (array.ndim - 2), times, times))
        if array.dtype == np.uint8:
            return np.clip(whole + random.integers(-8, 9, whole.shape), 0, 255).astype(np.uint8)
        return (whole + random.standard_normal(whole.shape) * 0.3 * float(np.abs(array).std())).astype(array.dtype)

    def level(one: TraceLevel) -> TraceLevel:
        sizes: dict[str, Any] = {
            name: getattr(one, name) * times for name in ("height", "width", "step_height", "step_width")
        }
        return replace(one, **sizes)

    shapes: TraceShapes = replace(
        trace.header.shapes, latent_height=side, latent_width=side, height=pixels, width=pixels
    )
    header = replace(trace.header, shapes=shapes, levels=tuple(level(one) for one in trace.header.levels))
    assert trace.final_latents is not None
    assert trace.picture is not None
    return replace(
        trace,
        header=header,
        latents=tiled(trace.latents),
        final_latents=tiled(trace.final_latents),
        predicted_x0=tiled(trace.predicted_x0),
        cond=tiled(trace.cond),
        uncond=None if trace.uncond is None else tiled(trace.uncond),
        step_maps=tuple(map(tiled, trace.step_maps)),
        mean_maps=tuple(np.abs(tiled(maps)) for maps in trace.mean_maps),
        picture=np.tile(trace.picture, (times, times, 1)),
    )
