"""The list of well-known models: typed, with its sources, and honest about what cannot be loaded."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from webui.runtime.entries import BART, CLIP, T5, TXT2IMG, VIT
from webui.runtime.hub_cache import read_hub_id
from webui.runtime.known import Ability, KnownModel, known_models

KNOWN = known_models()


def test_every_task_has_choices() -> None:
    assert {model.task for model in KNOWN} == {TXT2IMG, CLIP, VIT, T5, BART}
    assert sum(model.task == TXT2IMG for model in KNOWN) >= 8
    assert any("th" in model.languages and Ability.TRANSLATES in model.abilities for model in KNOWN)


@pytest.mark.parametrize("model", KNOWN, ids=lambda model: model.id)
def test_an_entry_is_whole(model: KnownModel) -> None:
    assert read_hub_id(model.id).repo == model.id
    assert all(source.startswith("https://") for source in model.sources)
    assert model.languages
    assert model.abilities
    assert bool(model.pipeline) == (model.task == TXT2IMG)
    assert (model.commercial_use is None) == (not model.licence), "a use without a licence is a guess"
    assert model.memory_bytes
    if model.download_bytes:
        assert model.memory_bytes >= model.download_bytes


def test_licences_that_forbid_commercial_use_are_marked() -> None:
    forbidden = {model.id for model in KNOWN if model.commercial_use == "not_allowed"}
    assert forbidden == {model.id for model in KNOWN if model.licence == "sai-nc-community"} != set()


def test_other_pipelines_are_listed_as_not_loadable() -> None:
    by_id = {model.id: model for model in KNOWN}
    assert by_id["CompVis/stable-diffusion-v1-4"].loadable
    assert by_id["openai/clip-vit-large-patch14"].loadable
    assert by_id["black-forest-labs/FLUX.1-schnell"].loadable
    assert by_id["PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"].loadable
    assert not by_id["CompVis/stable-diffusion-v1-4"].model_copy(update={"pipeline": "SanaPipeline"}).loadable


@pytest.mark.parametrize(
    "wrong", [{"task": "sing"}, {"id": "no-owner"}, {"sources": []}, {"download_bytes": 0}, {"x": 1}]
)
def test_a_wrong_entry_is_refused(wrong: dict[str, object]) -> None:
    good = {"id": "a/b", "task": "clip", "title": "A", "family": "CLIP", "sources": ["https://a.example"]}
    KnownModel.model_validate(good)
    with pytest.raises(ValidationError):
        KnownModel.model_validate(good | wrong)
