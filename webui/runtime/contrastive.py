"""The two kinds of model that score pictures against texts, told apart by `model_type`: CLIP and SigLIP.

"siglip" is SigLIP and the fixed-size SigLIP 2, "siglip2" the SigLIP 2 that keeps a picture's shape (NaFlex).
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, normalizers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from webui.errors import UserError
from webui.runtime import safety
from webui.runtime.shared_tokenizer import share


@dataclass(frozen=True, slots=True)
class Kind:
    """The classes of one `model_type`."""

    model: Any
    config: Any
    image_processor: Any


@dataclass(frozen=True, slots=True)
class TextsAndPictures:
    """What prepares the inputs of a SigLIP; the library's own processor wants a sentencepiece tokenizer."""

    tokenizer: Any
    image_processor: Any


KINDS: Final = {
    "clip": Kind(CLIPModel, CLIPConfig, CLIPImageProcessorPil),
    "siglip": Kind(SiglipModel, SiglipConfig, SiglipImageProcessorPil),
    "siglip2": Kind(Siglip2Model, Siglip2Config, Siglip2ImageProcessorPil),
}


def kind_of(folder: Path) -> Kind:
    """The classes of the model in `folder`; raises UserError for a `model_type` that is not known here."""
    config = folder / "config.json"
    model_type = str(safety.read_json(config).get("model_type"))
    if model_type not in KINDS:
        raise UserError("error.model_not_supported", file=str(config), name=model_type)
    return KINDS[model_type]


def load_siglip_processor(folder: Path, model: Any) -> TextsAndPictures:
    """Tokenizer and image processor of the SigLIP in `folder`, read from tokenizer.json alone.

    The text tower was trained on lower-case text, without a mask over the padding (big_vision), and the first SigLIP
    also without punctuation; not every published tokenizer.json sees to that, so it is made sure of here. Raises
    UserError when the vocabulary is not the model's.
    """
    settings = safety.read_json(folder / "tokenizer_config.json")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # An image-text model may have more rows than words, never fewer: their ids would lie outside the table.
    vocabulary = int(model.config.text_config.vocab_size)
    if len(tokenizer) > vocabulary:
        safety.check_vocabulary(folder, len(tokenizer), vocabulary)
    tokenizer.model_input_names = ["input_ids"]
    backend = tokenizer.backend_tokenizer
    first = _canonical(without_punctuation=settings.get("tokenizer_class") == "SiglipTokenizer")
    own = backend.normalizer
    backend.normalizer = normalizers.Sequence([*first, own] if own is not None else first)
    image_processor = kind_of(folder).image_processor.from_pretrained(folder, local_files_only=True)
    return TextsAndPictures(share(tokenizer), image_processor)


def _canonical(*, without_punctuation: bool) -> list[Any]:
    """What big_vision does to a text before its tokenizer; doing it twice changes nothing."""
    steps: list[Any] = [normalizers.Lowercase()]
    if without_punctuation:
        steps += [
            normalizers.Replace(Regex(f"[{_escaped(string.punctuation)}]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    return steps


def _escaped(characters: str) -> str:
    return "".join("\\" + character for character in characters)
