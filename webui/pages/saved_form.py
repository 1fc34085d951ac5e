"""The form as a browser kept it: only what is still possible is put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from webui.diffusion.request import GenerateRequest, check_request
from webui.diffusion.request_values import request_from_values
from webui.errors import UserError
from webui.studio import Studio
from webui.tasks.files import vae_file


def usable_values(saved: object, studio: Studio) -> dict[str, Any]:
    """The fields of `saved` that can be asked for today.

    A browser may hold anything: an older version's fields, a model that is gone, values beyond limits that were
    lowered since. Such fields are left out and the form keeps its default there.
    """
    if not isinstance(saved, Mapping):
        return {}
    names = [field.name for field in fields(GenerateRequest) if field.name in saved]
    return {name: saved[name] for name in names if _is_usable(name, saved[name], studio)}


def _is_usable(name: str, value: object, studio: Studio) -> bool:
    try:
        request = request_from_values({"prompt": "", name: value})
        check_request(request, studio.settings.limits)
        studio.samplers.find(request.sampler)
        if name == "model":
            studio.catalog.find(request.model, "txt2img")
        if name == "vae":
            vae_file(studio, request)
    except UserError:
        return False
    return True
