"""What each model was trained to do with a prompt, from a table of the models that people use.

A model writes something for any input; only what it was trained for is worth a button. Sources: Raffel et al. 2020
(T5: CNN/DailyMail, WMT English to German, French and Romanian, span corruption), Chung et al. 2022 (Flan-T5), Xue et
al. 2021 (mT5: span corruption alone), Muennighoff et al. 2023 (mT0), Kudugunta et al. 2023 (MADLAD-400), Lewis et al.
2020 (BART: text infilling and sentence permutation; CNN/DailyMail and XSum after that). A folder that the table does
not know has the abilities that `task_specific_params` in its config.json names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from webui.errors import UserError
from webui.prompts.request import PromptTask
from webui.runtime import safety
from webui.runtime.entries import BART, T5, CatalogEntry

THAI_TO_ENGLISH: Final = "th-en"
THAI_MODEL: Final = "google/madlad400-3b-mt"
"""A T5 of full size that reads Thai; what is recommended where no model here does."""


@dataclass(frozen=True, slots=True)
class Skill:
    """One thing that a model was trained for: `prefix` is put before the text, `direction` is for translating."""

    task: PromptTask
    prefix: str = ""
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Abilities:
    """`skills` in words is the message `trained_for`; `reads_tokens` is how much the model takes in at once."""

    skills: tuple[Skill, ...]
    trained_for: str
    reads_tokens: int = 512

    def skill(self, task: PromptTask, direction: str = "") -> Skill | None:
        """How to ask for `task`; None when the model was not trained for it."""
        found = [skill for skill in self.skills if skill.task is task]
        return next((skill for skill in found if not direction or skill.direction == direction), None)

    def can(self, task: PromptTask) -> bool:
        """Whether the model was trained for `task`."""
        return self.skill(task) is not None

    @property
    def directions(self) -> tuple[str, ...]:
        """The languages that it translates: "th-en" is Thai to English."""
        return tuple(skill.direction for skill in self.skills if skill.direction)


_FILL: Final = Skill(PromptTask.FILL)
_DENOISE: Final = (Skill(PromptTask.REPAIR), _FILL)
_WMT: Final = tuple(
    Skill(PromptTask.TRANSLATE, f"translate English to {name}: ", f"en-{code}")
    for name, code in (("German", "de"), ("French", "fr"), ("Romanian", "ro"))
)
_EMOJI_T5: Final = Abilities(
    (
        Skill(PromptTask.TRANSLATE, "translate Thai to English: ", THAI_TO_ENGLISH),
        Skill(PromptTask.SHORTEN, "shorten: "),
        Skill(PromptTask.EXPAND, "expand: "),
        _FILL,
    ),
    "prompt.trained.emoji_t5",
    reads_tokens=96,
)
_EMOJI_BART: Final = Abilities(_DENOISE, "prompt.trained.emoji_bart", reads_tokens=96)
_BY_NAME: Final = (
    (r"flan-t5", Abilities(
        (*_WMT, Skill(PromptTask.SHORTEN, "Summarize: "),
         Skill(PromptTask.EXPAND, "Write a detailed description of a picture of ")),
        "prompt.trained.flan_t5",
    )),
    (r"madlad400", Abilities((Skill(PromptTask.TRANSLATE, "<2en> ", THAI_TO_ENGLISH),), "prompt.trained.madlad")),
    (r"\bmt0", Abilities(
        (Skill(PromptTask.TRANSLATE, "Translate to English: ", THAI_TO_ENGLISH),), "prompt.trained.mt0")),
    (r"\bmt5|t5-v1_1|t5-efficient", Abilities((_FILL,), "prompt.trained.spans")),
    (r"\bt5-(small|base|large|3b|11b)$", Abilities(
        (*_WMT, Skill(PromptTask.SHORTEN, "summarize: "), _FILL), "prompt.trained.t5")),
    (r"bart-.*(cnn|xsum)", Abilities((Skill(PromptTask.SHORTEN),), "prompt.trained.bart_summary", reads_tokens=1024)),
    (r"\bbart-(base|large)$", Abilities(_DENOISE, "prompt.trained.bart", reads_tokens=1024)),
)  # fmt: skip
_FAMILIES: Final[Mapping[PromptTask, tuple[str, ...]]] = {
    PromptTask.TRANSLATE: (T5, BART),
    PromptTask.SHORTEN: (T5, BART),
    PromptTask.EXPAND: (T5, BART),
    PromptTask.REPAIR: (BART, T5),
    PromptTask.FILL: (BART, T5),
}
"""Which family is asked first when nobody chose a model."""

_REASONS: Final[Mapping[PromptTask, str]] = {
    PromptTask.TRANSLATE: "error.cannot_translate",
    PromptTask.SHORTEN: "error.cannot_shorten",
    PromptTask.EXPAND: "error.cannot_expand",
    PromptTask.REPAIR: "error.cannot_repair",
    PromptTask.FILL: "error.cannot_fill",
}


def abilities_of(entry: CatalogEntry) -> Abilities:
    """What the T5 or BART behind `entry` was trained for. Raises UserError when its config.json cannot be read."""
    if (entry.source.parent / "suite.json").is_file():
        return _EMOJI_T5 if entry.task == T5 else _EMOJI_BART
    name = f"{entry.source.parent.name}/{entry.source.name}".lower()
    known = next((abilities for pattern, abilities in _BY_NAME if re.search(pattern, name)), None)
    return known or declared_abilities(safety.read_json(entry.source / "config.json"))


def declared_abilities(config: Mapping[str, Any]) -> Abilities:
    """What a config.json's `task_specific_params` says, as T5's does: a name and a prefix for each task."""
    declared = config.get("task_specific_params")
    named = declared if isinstance(declared, Mapping) else {}
    skills = [_declared_skill(str(name), values) for name, values in named.items() if isinstance(values, Mapping)]
    found = tuple(skill for skill in skills if skill is not None)
    positions = config.get("max_position_embeddings")
    reads = positions if isinstance(positions, int) and positions > 0 else 512
    return Abilities(found, "prompt.trained.declared" if found else "prompt.trained.unknown", reads)


def _declared_skill(name: str, values: Mapping[str, Any]) -> Skill | None:
    prefix = str(values.get("prefix") or "")
    if match := re.fullmatch(r"translation_([a-z]{2,3})_to_([a-z]{2,3})", name):
        return Skill(PromptTask.TRANSLATE, prefix, f"{match[1]}-{match[2]}")
    known = {"summarization": PromptTask.SHORTEN, **{str(task): task for task in PromptTask}}
    task = known.get(name)
    return Skill(task, prefix) if task is not None and task is not PromptTask.TRANSLATE else None


def refusal(entry: CatalogEntry, task: PromptTask) -> UserError:
    """Why the model's button for `task` is off, and which model to choose."""
    return UserError(_REASONS[task], model=entry.title, thai_model=THAI_MODEL)


def choose_model(
    entries: tuple[CatalogEntry, ...], task: PromptTask, family: str = "", model: str = "", direction: str = ""
) -> tuple[CatalogEntry, Skill, Abilities]:
    """The model that does `task`: the one that is named, or the first that was trained for it.

    Raises UserError when the one that is named cannot, and when there is none that can.
    """
    families = (family,) if family else _FAMILIES[task]
    named = [entry for kind in families for entry in entries if entry.task == kind and model in ("", entry.id)]
    for entry in named:
        if entry.problem is None and (skill := abilities_of(entry).skill(task, direction)) is not None:
            return entry, skill, abilities_of(entry)
    if model and named:
        named[0].key()  # raises the entry's own problem
        raise refusal(named[0], task)
    if model:
        known = ", ".join(entry.id for entry in entries if entry.task in families and entry.problem is None)
        raise UserError("error.unknown_model", model=model[:100], known=known or "-")
    raise UserError("error.no_model_for_prompt", thai_model=THAI_MODEL)
