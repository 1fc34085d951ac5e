"""What is said of models that are known by name: licence, size, languages and what they can do."""

from __future__ import annotations

from typing import Final

from webui.i18n import Translator
from webui.runtime.checkpoint_family import FileKind
from webui.runtime.entries import BART, CLIP, T5, TXT2IMG, VIT
from webui.runtime.known import Ability, KnownModel
from webui.runtime.memory import format_bytes

TASK_WORDS: Final = {
    TXT2IMG: "models.task.txt2img",
    CLIP: "models.task.clip",
    VIT: "models.task.vit",
    T5: "models.task.t5",
    BART: "models.task.bart",
}
"""Message keys, in the order in which tasks are listed."""
_ABILITY_WORDS: Final = {
    Ability.DRAWS_512: "models.ability.draws_512",
    Ability.DRAWS_768: "models.ability.draws_768",
    Ability.DRAWS_1024: "models.ability.draws_1024",
    Ability.FEW_STEPS: "models.ability.few_steps",
    Ability.WORD_MAPS: "models.ability.word_maps",
    Ability.SCORES: "models.ability.scores",
    Ability.READS_FOR_SD1: "models.ability.reads_for_sd1",
    Ability.NAMES_IMAGENET: "models.ability.names_imagenet",
    Ability.SHORTENS: "models.ability.shortens",
    Ability.FOLLOWS_INSTRUCTIONS: "models.ability.follows_instructions",
    Ability.TRANSLATES: "models.ability.translates",
    Ability.REPAIRS: "models.ability.repairs",
}
_USE_WORDS: Final = {
    "allowed": "models.use.allowed",
    "limited": "models.use.limited",
    "not_allowed": "models.use.not_allowed",
    None: "models.use.unknown",
}
_LANGUAGE_WORDS: Final = {
    "en": "models.language.en",
    "th": "models.language.th",
    "de": "models.language.de",
    "fr": "models.language.fr",
    "ro": "models.language.ro",
    "multilingual": "models.language.multilingual",
}


def task_words(task: str, say: Translator) -> str:
    """What a task is called; beside those of whole models there is only a VAE's."""
    return say.text(TASK_WORDS.get(task, FileKind.VAE.value))


def licence_words(model: KnownModel, say: Translator) -> str:
    """The licence and how it stands to commercial use."""
    name = model.licence or say.text("models.no_licence")
    return f"{name}, {say.text(_USE_WORDS[model.commercial_use])}"


def ability_words(model: KnownModel, say: Translator) -> str:
    """What it can do, in a line."""
    return ", ".join(say.text(_ABILITY_WORDS[ability]) for ability in model.abilities)


def language_words(model: KnownModel, say: Translator) -> str:
    """The languages that it reads."""
    return ", ".join(say.text(_LANGUAGE_WORDS[language]) for language in model.languages)


def size_words(size: int | None, say: Translator) -> str:
    """A size, or that its card does not tell it."""
    return say.text("models.unknown_size") if size is None else format_bytes(size)


def extent_words(model: KnownModel, say: Translator) -> str:
    """How large a download is, or, where nobody tells, how much memory the model takes."""
    if model.download_bytes is None and model.memory_bytes is not None:
        return say.text("models.memory_size", size=format_bytes(model.memory_bytes))
    return size_words(model.download_bytes, say)


def file_words(size: int) -> str:
    """The size of a file, which may be small: "742 B", "12 KiB", "1.7 GiB"."""
    if size < 2**10:
        return f"{size} B"
    return f"{size / 2**10:.0f} KiB" if size < 2**20 else format_bytes(size)


def known_facts(model: KnownModel, say: Translator) -> list[tuple[str, str]]:
    """All that is known of a model: names and values in the reader's language."""
    facts = [
        ("models.fact.task", task_words(model.task, say)),
        ("models.fact.family", model.family),
        ("models.fact.licence", licence_words(model, say)),
        ("models.fact.download", size_words(model.download_bytes, say)),
        ("models.fact.memory", size_words(model.memory_bytes, say)),
        ("models.fact.languages", language_words(model, say)),
        ("models.fact.abilities", ability_words(model, say)),
        ("models.fact.sources", " ".join(model.sources)),
    ]
    if not model.loadable:
        facts.append(("models.fact.state", say.text("models.not_loadable", pipeline=model.pipeline)))
    return [(say.text(key), value) for key, value in facts]
