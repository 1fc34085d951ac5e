from __future__ import annotations

from pathlib import Path

from webui.diffusion.samplers import FLOW_SAMPLERS, SAMPLERS, SHIPPED_SAMPLERS
from webui.pages.create_form import offered_samplers
from webui.runtime.entries import CatalogEntry
from webui.runtime.pipelines import PIPELINES


def entry(pipeline: str) -> CatalogEntry:
    kind = PIPELINES[pipeline]
    return CatalogEntry("m", "txt2img", "M", Path(), "", "", 0, bundled=False, kind=kind)


def test_the_list_of_samplers_follows_the_model_and_a_choice_stays_where_it_can() -> None:
    flow, noise = entry("FluxPipeline"), entry("StableDiffusionXLPipeline")
    to_flow = offered_samplers(SHIPPED_SAMPLERS, flow, "DDIM")
    assert (to_flow["choices"], to_flow["value"]) == (list(FLOW_SAMPLERS), "Flow Euler")
    back = offered_samplers(SHIPPED_SAMPLERS, noise, "Flow Euler")
    assert (back["choices"], back["value"]) == (list(SAMPLERS), "DPM++ 2M Karras")
    assert offered_samplers(SHIPPED_SAMPLERS, noise, "DDIM")["value"] == "DDIM"
