"""What needs no model: requests, abilities, differences, segments, shortening until it fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.errors import UserError
from webui.prompts.abilities import THAI_TO_ENGLISH, abilities_of, choose_model, declared_abilities
from webui.prompts.difference import Kind, differences, dropped, pieces
from webui.prompts.request import PromptTask, check_prompt_request, mark_masks, prompt_request_from_values
from webui.prompts.segments import segments
from webui.runtime.entries import BART, T5, CatalogEntry

TEXT = st.text(st.sampled_from("ab ,.\nแมวน้ำ'[]<>_é😀"), max_size=60)


@given(TEXT, TEXT)
def test_differences_rebuild_both_texts(original: str, candidate: str) -> None:
    found = differences(original, candidate)
    before = "".join(stretch.text for stretch in found if stretch.kind is not Kind.ADDED)
    after = "".join(stretch.text for stretch in found if stretch.kind is not Kind.DROPPED)
    assert before.lower() == original.replace("\n", " ").lower()
    assert after.lower() == candidate.replace("\n", " ").lower()


def test_thai_is_compared_by_what_a_reader_sees_as_a_character() -> None:
    assert pieces("น้ำเงิน don't") == ["น้", "ำ", "เ", "งิ", "น", " ", "don't"]
    assert dropped("a small cat, highly detailed", "a cat") == ("small", "highly detailed")
    [same, *_] = differences("แมวดำ", "แมวขาว")
    assert (same.kind, same.text) == (Kind.SAME, "แมว")


@given(TEXT, st.integers(1, 12))
def test_segments_lose_nothing_and_fit(words: str, limit: int) -> None:
    found = segments(words, len, limit)
    assert "".join(found) == words
    assert all(len(part) <= limit for part in found)


def entry(folder: Path, name: str, task: str, config: dict[str, Any]) -> CatalogEntry:
    source = folder / name
    source.mkdir(parents=True)
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return CatalogEntry(name, task, name, source, "", "", 0, bundled=False)


@pytest.mark.parametrize(
    ("name", "task", "can", "directions"),
    [
        ("google-t5/t5-base", T5, {"translate", "shorten", "fill"}, ("en-de", "en-fr", "en-ro")),
        ("google/flan-t5-base", T5, {"translate", "shorten", "expand"}, ("en-de", "en-fr", "en-ro")),
        ("google/madlad400-3b-mt", T5, {"translate"}, (THAI_TO_ENGLISH,)),
        ("google/mt5-small", T5, {"fill"}, ()),
        ("facebook/bart-large", BART, {"repair", "fill"}, ()),
        ("facebook/bart-large-cnn", BART, {"shorten"}, ()),
        ("mine", T5, set(), ()),
    ],
)
def test_what_each_model_was_trained_for(
    tmp_path: Path, name: str, task: str, can: set[str], directions: tuple[str, ...]
) -> None:
    found = abilities_of(entry(tmp_path, name, task, {}))
    assert {str(task) for task in PromptTask if found.can(task)} == can
    assert found.directions == directions


def test_an_unknown_folder_can_what_its_configuration_says() -> None:
    params = {
        "summarization": {"prefix": "summarize: "},
        "translation_th_to_en": {"prefix": "th: "},
        "strange": {"prefix": "x"},
    }
    found = declared_abilities({"task_specific_params": params, "max_position_embeddings": 256})
    assert {skill.task for skill in found.skills} == {PromptTask.SHORTEN, PromptTask.TRANSLATE}
    assert (found.skills[1].prefix, found.directions, found.reads_tokens) == ("th: ", (THAI_TO_ENGLISH,), 256)
    assert declared_abilities({"task_specific_params": [1]}).skills == ()


def test_the_suites_models_and_the_reason_for_a_refusal(tmp_path: Path) -> None:
    base = entry(tmp_path, "google-t5/t5-base", T5, {})
    suite = entry(tmp_path / "suite", "t5", T5, {})
    with pytest.raises(UserError, match="no_model_for_prompt"):
        choose_model((base,), PromptTask.TRANSLATE, direction=THAI_TO_ENGLISH)
    (tmp_path / "suite" / "suite.json").write_text("{}", encoding="utf-8")
    chosen, skill, _ = choose_model((base, suite), PromptTask.TRANSLATE, direction=THAI_TO_ENGLISH)
    assert (chosen, skill.prefix) == (suite, "translate Thai to English: ")
    with pytest.raises(UserError, match="cannot_expand"):
        choose_model((base, suite), PromptTask.EXPAND, T5, "google-t5/t5-base")
    with pytest.raises(UserError, match="unknown_model"):
        choose_model((base, suite), PromptTask.EXPAND, T5, "gone")


@pytest.mark.parametrize(
    ("task", "values", "key"),
    [
        ("sing", {"text": "a"}, "error.unknown_prompt_task"),
        ("expand", {}, "error.field_missing"),
        ("expand", {"text": " \n"}, "error.prompt_empty"),
        ("expand", {"text": "a\x00b"}, "error.control_character"),
        ("expand", {"text": "a" * 100_001}, "error.prompt_too_long"),
        ("expand", {"text": "a", "colour": 1}, "error.unknown_field"),
        ("expand", {"text": 3}, "error.not_text"),
        ("expand", {"text": "a", "beams": 1.5}, "error.not_a_whole_number"),
        ("expand", {"text": "a", "beams": True}, "error.not_a_number"),
        ("expand", {"text": "a", "temperature": float("nan")}, "error.writing_out_of_range"),
        ("expand", {"text": "a", "method": "luck"}, "error.unknown_method"),
        ("fill", {"text": "a cat"}, "error.no_mask"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(task: str, values: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as refused:
        check_prompt_request(prompt_request_from_values(task, values))
    assert refused.value.key == key


def test_masks_may_be_written_in_several_ways() -> None:
    assert mark_masks("a [MASK] cat <mask> ____ __") == "a [mask] cat [mask] [mask] __"
