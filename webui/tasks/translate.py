"""Before a picture is drawn: a Thai or mixed prompt in English, for models that read no Thai.

`draw_pictures` and `record_run` ask for it where the request's `translate` is set; the words that were written stay in
the request as `original_prompt`, and so in the picture's infotext.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from webui.diffusion.prompt_weights import read_weights
from webui.diffusion.request import GenerateRequest, check_request
from webui.errors import UserError
from webui.prompts.abilities import THAI_TO_ENGLISH, Abilities, Skill, choose_model
from webui.prompts.difference import has_thai
from webui.prompts.request import PromptTask, WritingSettings
from webui.runtime.entries import CatalogEntry
from webui.runtime.jobs import JobContext
from webui.studio import Studio

if TYPE_CHECKING:
    from webui.prompts.rewriting import Rewriter
    from webui.prompts.t5 import Rewritten

_WORKING_MEMORY: Final = 256 * 1024 * 1024
_SETTINGS: Final = WritingSettings(candidates=1, max_new_tokens=256)  # beam search: the same English every time


@dataclass(frozen=True, slots=True)
class Translation:
    """What is drawn instead of `original`: `text`, written by the model called `model`.

    `parts` > 1 when it is so long that it was read in that many parts; `negative_left` says that the negative prompt
    has Thai, which stays as it is; `weights_left`, that words had weights, which translations do not keep.
    """

    original: str
    text: str
    model: str
    parts: int = 1
    negative_left: bool = False
    weights_left: bool = False


def thai_translator(studio: Studio) -> tuple[CatalogEntry, Skill, Abilities]:
    """The model that translates Thai into English; raises UserError that says what to get when there is none."""
    return choose_model(studio.catalog.entries(), PromptTask.TRANSLATE, direction=THAI_TO_ENGLISH)


def wants_translation(request: GenerateRequest) -> bool:
    """Whether there is something to translate: a prompt without Thai is drawn as it is."""
    return request.translate and has_thai(request.prompt)


def translate_first(
    studio: Studio, request: GenerateRequest, context: JobContext
) -> tuple[GenerateRequest, Translation | None]:
    """The request to draw, with English for its prompt where it asks for that, and what was translated.

    Raises UserError for what the user can put right, and JobCancelled between two tokens.
    """
    if not wants_translation(request):
        return replace(request, translate=False), None
    entry, skill, abilities = thai_translator(studio)
    weighted = read_weights(request.prompt)

    def work(rewriter: Rewriter) -> Rewritten:
        from webui.prompts.rewriting import check_special_tokens
        from webui.prompts.t5 import translate

        check_special_tokens(rewriter, weighted.text)
        reads = abilities.reads_tokens
        return translate(rewriter, weighted.text, _SETTINGS, context, prefix=skill.prefix, reads_tokens=reads)

    written = studio.manager.run(
        entry.key(), work, working_memory=_WORKING_MEMORY, cancel=context.cancelled, on_progress=context.progress
    )
    if not written.texts:
        raise UserError("error.nothing_written", model=entry.title)
    english = written.texts[0].text
    asked = replace(request, prompt=english, original_prompt=request.prompt, translate=False)
    check_request(asked, studio.settings.limits)  # English may be longer than the Thai was
    return asked, Translation(
        request.prompt,
        english,
        entry.title,
        written.parts,
        negative_left=has_thai(request.negative_prompt),
        weights_left=bool(weighted.spans),
    )
