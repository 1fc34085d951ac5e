"""What the txt2img page takes from the models folder beside a model: LoRA and textual inversions, and a VAE."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from webui.diffusion.lora_tags import LoraUse, with_lora
from webui.i18n import Translator
from webui.pages.localize import QUIET, Localizer, Updates
from webui.runtime.catalog import Catalog
from webui.runtime.checkpoint_family import FileKind


@dataclass(frozen=True, slots=True)
class FilesPart:
    """A panel that is closed at first: which file, how strongly, and the buttons that put it into a prompt."""

    catalog: Catalog
    lora: gr.Dropdown
    weight: gr.Slider
    add_lora: gr.Button
    inversion: gr.Dropdown
    add: gr.Button
    add_negative: gr.Button

    @classmethod
    def build(cls, page: Localizer, catalog: Catalog) -> FilesPart:
        """Lay it out where it is called."""

        def loras(_: Translator) -> list[tuple[str, str]]:
            return file_choices(catalog, FileKind.LORA)

        def inversions(_: Translator) -> list[tuple[str, str]]:
            return file_choices(catalog, FileKind.EMBEDDING)

        with page.make(gr.Accordion, {"label": "create.files.panel"}, open=False, elem_id="loras"):
            page.make(gr.Markdown, {"value": "create.lora.about"})
            lora = page.make(
                gr.Dropdown, {"label": "create.lora.name", "choices": loras}, value=None, elem_id="lora-name"
            )
            weight = page.make(
                gr.Slider, {"label": "create.lora.weight", "info": "create.lora.weight.info"}, minimum=-2, maximum=2,
                step=0.05, buttons=[], value=1, elem_id="lora-weight",
            )  # fmt: skip
            add_lora = page.make(gr.Button, {"value": "create.lora.add"}, size="sm", elem_id="lora-add")
            page.make(gr.Markdown, {"value": "create.inversion.about"})
            inversion = page.make(
                gr.Dropdown, {"label": "create.inversion.name", "choices": inversions}, value=None,
                elem_id="inversion-name",
            )  # fmt: skip
            with gr.Row():
                add = page.make(gr.Button, {"value": "create.inversion.add"}, size="sm", elem_id="inversion-add")
                add_negative = page.make(
                    gr.Button, {"value": "create.inversion.add_negative"}, size="sm", elem_id="inversion-add-negative"
                )
        return cls(catalog, lora, weight, add_lora, inversion, add, add_negative)

    def wire(self, prompt: gr.Textbox, negative_prompt: gr.Textbox) -> None:
        """The buttons change these two boxes."""

        def lora_into_prompt(text: str, name: str | None, weight: float) -> Updates:
            """Put the tag behind the prompt, once."""
            updates = self._as_the_folder_is()
            if name:
                updates[prompt] = gr.update(value=with_lora(text, LoraUse(name, float(weight))))
            return updates

        def into_prompt(text: str, name: str | None) -> Updates:
            return self._as_the_folder_is() | ({prompt: gr.update(value=with_word(text, name))} if name else {})

        def into_negative(text: str, name: str | None) -> Updates:
            changed = {negative_prompt: gr.update(value=with_word(text, name))} if name else {}
            return self._as_the_folder_is() | changed

        lists = [self.lora, self.inversion]
        self.add_lora.click(
            lora_into_prompt, inputs=[prompt, self.lora, self.weight], outputs=[prompt, *lists], **QUIET
        )
        self.add.click(into_prompt, inputs=[prompt, self.inversion], outputs=[prompt, *lists], **QUIET)
        self.add_negative.click(
            into_negative, inputs=[negative_prompt, self.inversion], outputs=[negative_prompt, *lists], **QUIET
        )

    def _as_the_folder_is(self) -> Updates:
        """Lists that are never older than the last click."""
        return {
            self.lora: gr.update(choices=file_choices(self.catalog, FileKind.LORA)),
            self.inversion: gr.update(choices=file_choices(self.catalog, FileKind.EMBEDDING)),
        }


def build_vae(page: Localizer, catalog: Catalog) -> gr.Dropdown:
    """The VAE that decodes: the model's own unless another is chosen, in a panel that is closed at first."""

    def choices(say: Translator) -> list[tuple[str, str]]:
        return [(say.text("create.vae.own"), ""), *file_choices(catalog, FileKind.VAE)]

    with page.make(gr.Accordion, {"label": "create.vae.panel"}, open=False, elem_id="vae-panel"):
        page.make(gr.Markdown, {"value": "create.vae.about"})
        return page.make(gr.Dropdown, {"label": "create.vae.name", "choices": choices}, value="", elem_id="vae")


def file_choices(catalog: Catalog, kind: FileKind) -> list[tuple[str, str]]:
    """The usable files of a kind, by their bare names where only one is called so.

    A textual inversion is a word, so of those two of one name are of no use.
    """
    files = [file for file in catalog.files.found() if file.kind is kind and file.problem is None]
    names = [file.name for file in files]
    if kind is FileKind.EMBEDDING:
        return [(name, name) for name in names if names.count(name) == 1]
    called = (file.name if names.count(file.name) == 1 else file.id for file in files)
    return [(name, name) for name in called]


def with_word(prompt: str, word: str) -> str:
    """The prompt with the word in it; it stays where it stands already."""
    if word.lower() in prompt.lower():
        return prompt
    return f"{prompt.rstrip().rstrip(',')}, {word}" if prompt.strip() else word
