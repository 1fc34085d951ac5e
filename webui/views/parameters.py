"""What a picture was drawn from, as a list to read and as A1111 infotext to copy."""

from __future__ import annotations

from webui.diffusion.request import GenerateRequest
from webui.i18n import Translator
from webui.views.markup import element, text


def render_parameters(request: GenerateRequest, infotext: str, say: Translator) -> str:
    """All parameters of one picture; `request.seed` is its own seed. The copy button takes the infotext with it."""
    prompts = [_entry(say.text("create.prompt"), request.prompt, "wide")]
    if request.original_prompt:
        prompts.append(_entry(say.text("create.translated_from"), request.original_prompt, "wide"))
    if request.negative_prompt:
        prompts.append(_entry(say.text("create.negative_prompt"), request.negative_prompt, "wide"))
    values = [
        _entry(say.text("create.seed.used"), str(request.seed), "value-seed"),
        _entry(say.text("create.steps"), str(request.steps)),
        _entry(say.text("create.sampler"), request.sampler),
        _entry(
            say.text("create.guidance_scale"), "" if request.guidance_scale is None else f"{request.guidance_scale:g}"
        ),
        _entry(say.text("create.size"), f"{request.width} × {request.height}"),
        _entry(say.text("create.model"), request.model),
    ]
    if request.vae:
        values.append(_entry(say.text("create.vae.name"), request.vae))
    copy = element(
        "button",
        text(say.text("create.copy")),
        type="button",
        class_="copy-button",
        data_copy=infotext,
        data_copied=say.text("create.copied"),
    )
    listing = element("dl", *prompts, *values, class_="parameters")
    return element("section", listing, copy, class_="parameters-card")


def _entry(name: str, value: str, css_class: str = "") -> str:
    return element("div", element("dt", text(name)), element("dd", text(value)), class_=css_class)
