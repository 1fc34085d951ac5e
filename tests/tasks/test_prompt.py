"""What a prompt job does, with the emoji suite's T5, BART, CLIP and U-Net: the abilities that the page promises."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.tiny import save_tiny_vit
from tests.tiny_rewriters import save_t5
from webui.diffusion.request import check_text
from webui.errors import UserError
from webui.prompts.request import PromptTask, WritingSettings, prompt_request_from_values
from webui.runtime.jobs import JobCancelled, JobContext, Published
from webui.settings import Settings
from webui.studio import Studio, open_studio
from webui.tasks.prompt import AttentionRequest, PromptAnswer, TextSoFar, answer_as_dict, attend, rewrite_prompt
from webui.tasks.prompt_preview import PreviewRequest, preview_candidates

THAI = "แมว พื้นหลังสีน้ำเงิน"
ENGLISH = "a cat on a blue background"

pytestmark = pytest.mark.usefixtures("emoji_suite")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("prompt")
    save_t5(folder / "models" / "google-t5" / "t5-base")
    opened = open_studio(Settings(data_dir=folder))
    yield opened
    opened.close()


def ask(studio: Studio, context: JobContext, task: PromptTask, text: str, **values: object) -> PromptAnswer:
    return rewrite_prompt(studio, prompt_request_from_values(task, {"text": text, **values}), context)


def notes(answer: PromptAnswer) -> list[str]:
    return [note.key for note in answer.notes]


def test_thai_becomes_english_beside_its_original(studio: Studio, context: JobContext) -> None:
    answer = ask(studio, context, PromptTask.TRANSLATE, THAI)
    assert answer.candidates[0].text == ENGLISH
    assert (answer.request.text, answer.family) == (THAI, "t5")
    assert len({candidate.text for candidate in answer.candidates}) == len(answer.candidates) > 1
    assert all(candidate.changes == () for candidate in answer.candidates), "a translation shares no words"
    assert all(-1 <= (candidate.similarity or -2) <= 1 for candidate in answer.candidates)
    assert (answer.candidates[0].similarity or 0) > 0.8, "the suite's CLIP reads both languages"
    again = ask(studio, context, PromptTask.TRANSLATE, THAI)
    assert again.candidates == answer.candidates
    written = answer_as_dict(answer)
    assert json.loads(json.dumps(written, ensure_ascii=False))["candidates"][0]["text"] == ENGLISH


def test_a_prompt_over_77_tokens_is_shortened_to_fit_and_what_is_gone_is_told(
    studio: Studio, context: JobContext
) -> None:
    long = f"{ENGLISH}, highly detailed, " + "sharp focus, very beautiful, award winning picture, " * 8
    answer = ask(studio, context, PromptTask.SHORTEN, long)
    assert answer.tokens.cut_text, "the original does not fit"
    fitting = [candidate for candidate in answer.candidates if candidate.fits]
    assert fitting
    assert fitting[0].tokens.used <= 77 < answer.tokens.used
    assert "cat" in fitting[0].text
    assert "highly detailed" in " ".join(fitting[0].dropped)
    assert "prompt.note.similarity_cut" in notes(answer)


def test_damage_is_repaired_with_the_differences_marked(studio: Studio, context: JobContext) -> None:
    answer = ask(studio, context, PromptTask.REPAIR, "a cat on a bleu backgruond")
    best = answer.candidates[0]
    assert best.text == ENGLISH
    assert {change.kind.value for change in best.changes} >= {"added", "dropped"}


def test_masks_are_filled_in_several_ways_that_keep_the_rest(studio: Studio, context: JobContext) -> None:
    answer = ask(studio, context, PromptTask.FILL, "a [mask] cat on a [mask] background", candidates=4)
    texts = [candidate.text for candidate in answer.candidates]
    assert len(set(texts)) == len(texts) >= 3
    assert all(" cat on a " in text and text.endswith(" background") for text in texts[:2])


def test_keywords_become_a_caption_and_chance_is_repeated_by_its_seed(studio: Studio, context: JobContext) -> None:
    assert ask(studio, context, PromptTask.EXPAND, "cat blue").candidates[0].text == ENGLISH
    sampled = {"method": "sample", "temperature": 2.0, "top_p": 1.0, "candidates": 4, "max_new_tokens": 12}
    first, same, other = (
        ask(studio, context, PromptTask.EXPAND, "cat", seed=seed, **sampled).candidates for seed in (1, 1, 2)
    )
    assert first == same
    assert [c.text for c in first] != [c.text for c in other]
    for candidate in first + other:
        check_text(candidate.text, 1000)  # even what is drawn at random can be drawn from


@pytest.mark.parametrize(
    ("task", "text", "key"),
    [
        ("translate", "  ", "error.prompt_empty"),
        ("repair", "a\x07cat", "error.control_character"),
        ("repair", "cat " * 10_000, "error.prompt_too_long_for_model"),
        ("expand", "cat " * 10_000, "error.prompt_too_long_for_model"),
        ("fill", "a cat", "error.no_mask"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    studio: Studio, context: JobContext, task: PromptTask, text: str, key: str
) -> None:
    with pytest.raises(UserError) as refused:
        ask(studio, context, task, text)
    assert refused.value.key == key


def test_ten_thousand_words_are_shortened_in_parts_and_can_be_stopped_between_two(studio: Studio) -> None:
    request = prompt_request_from_values("shorten", {"text": "a big cat on a blue background, " * 1500})
    job = studio.jobs.submit(lambda context: rewrite_prompt(studio, request, context), owner="ann", kind="prompt")
    texts = []
    for event in job.events(120):
        if isinstance(event, Published) and isinstance(event.value, TextSoFar):
            texts.append(event.value.texts[0])
            if len(texts) == 3:
                studio.jobs.cancel(job.id, "ann")
    with pytest.raises(JobCancelled):
        job.result(120)
    assert len(texts[1]) > len(texts[0]) > 0


def test_t5_base_says_which_of_it_can_read_thai(studio: Studio, context: JobContext) -> None:
    model = "google-t5/t5-base"
    with pytest.raises(UserError) as refused:
        ask(studio, context, PromptTask.TRANSLATE, THAI, model=model, direction="th-en")
    assert refused.value.key == "error.cannot_translate"
    for language in ("en", "th"):
        assert "google/madlad400-3b-mt" in studio.messages.error(language, refused.value)
    german = ask(studio, context, PromptTask.TRANSLATE, "a cat", model=model, max_new_tokens=4)
    assert german.source == "translate English to German: a cat"


def test_each_written_word_looks_at_the_words_it_came_from(studio: Studio, context: JobContext) -> None:
    answer = ask(studio, context, PromptTask.TRANSLATE, THAI)
    found = attend(studio, AttentionRequest("t5", answer.model, answer.source, ENGLISH), context)
    assert np.allclose(found.weights.sum(axis=-1), 1, atol=1e-5)
    assert found.target == ("a", "cat", "on", "a", "blue", "background", "")
    row = found.mean()[found.target.index("cat")]
    names = [found.source[place] for place in np.argsort(row)[::-1][:3]]
    assert "แมว" in names


def test_previews_are_judged_by_clip_and_by_a_vit_that_came_later(studio: Studio, context: JobContext) -> None:
    request = PreviewRequest((ENGLISH, "a big dog"), THAI, steps=2)
    before = preview_candidates(studio, request, context)
    assert all(-1 <= (preview.own or -2) <= 1 and -1 <= (preview.original or -2) <= 1 for preview in before)
    bundled = any(entry.bundled for entry in studio.catalog.entries("vit"))
    assert all((preview.seen is not None) == bundled for preview in before)
    save_tiny_vit(studio.settings.models_dir / "late-vit")
    after = preview_candidates(studio, request, context)
    assert [preview.png for preview in after] == [preview.png for preview in before], "one seed, the same pictures"
    assert [[v.noun.written for v in preview.seen.verdicts] for preview in after if preview.seen] == [["cat"], ["dog"]]
    for preview in after:
        assert preview.seen is not None
        assert preview.seen.picture.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_weights_that_a_model_uses_twice_are_counted_once(studio: Studio, family: str) -> None:
    key = studio.catalog.entries(family)[0].key()
    with studio.manager.use(key) as rewriter:
        tensors = [*rewriter.model.parameters(), *rewriter.model.buffers()]
        (status,) = [one for one in studio.manager.status() if one.key.source == key.source]
        held = sum(tensor.nbytes for tensor in {tensor.data_ptr(): tensor for tensor in tensors}.values())
    assert status.size_bytes == pytest.approx(held, rel=0.01)


def test_settings_are_what_people_call_them() -> None:
    request = prompt_request_from_values("expand", {"text": "cat", "method": "sample", "top_p": 1, "beams": 2.0})
    assert request.settings == WritingSettings(method="sample", top_p=1.0, beams=2)
