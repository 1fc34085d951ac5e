"""What may be read as a model: only safetensors, only known classes, only inside the models folders, only whole files.

Weights are the one kind of file that people exchange freely, so a model folder is treated as hostile input. Everything
here reads a few kilobytes at most a file and imports no model library: a folder is refused before any of them sees it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from webui.errors import UserError
from webui.runtime.pipelines import PIPELINES, PipelineKind

MAX_JSON_BYTES: Final = 64 * 2**20
"""Larger than any tokenizer.json in use; a bigger file is not read."""

MAX_HEADER_BYTES: Final = 100_000_000
"""The safetensors format's own limit for its JSON header."""

TRANSFORMERS_STEM: Final = "model"
DIFFUSERS_STEM: Final = "diffusion_pytorch_model"
SPIECE: Final = "spiece.model"

CONTRASTIVE: Final = ("clip", "siglip", "siglip2")
"""The `model_type`s that score pictures against texts."""
T5_CLASSES: Final[Mapping[str, str]] = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}
BART_CLASSES: Final[Mapping[str, str]] = {"bart": "BartForConditionalGeneration"}
"""The model_type in config.json, and the one class that is built from it."""

UNUSED_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "safety_checker": ("stable_diffusion", r"StableDiffusionSafetyChecker"),
    "feature_extractor": ("transformers", r"CLIP(ImageProcessor(Fast|Pil)?|FeatureExtractor)"),
    "image_encoder": ("transformers", r"CLIPVisionModelWithProjection"),
}
"""Parts that a pipeline may name and that are never read: no safety checker runs here, and no picture is put in."""

_NOTHING: Final = [None, None]
"""How model_index.json says that a part is left out."""

_PADDED_TO: Final = 128


@dataclass(frozen=True, slots=True)
class Weights:
    """One model's weight files; `variant` is the "fp16" of `model.fp16.safetensors`, None for plain names."""

    files: tuple[Path, ...]
    variant: str | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)


def resolve_inside(path: Path, roots: Sequence[Path]) -> Path:
    """`path` with links followed; raises UserError unless it lies in one of `roots` even then."""
    resolved = path.resolve()
    if any(resolved.is_relative_to(root.resolve()) for root in roots):
        return resolved
    raise UserError("error.model_path_outside", path=str(path), folder=str(roots[0]))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; raises UserError that names the file when it is missing, damaged or something else."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError("error.model_file_broken", file=str(path), reason=f"> {MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("error.model_file_missing", file=str(path)) from error
    except OSError as error:
        raise UserError("error.model_file_broken", file=str(path), reason=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError("error.model_file_broken", file=str(path), reason=_first_line(error)) from error
    if not isinstance(value, dict):
        raise UserError("error.model_file_broken", file=str(path), reason="not a JSON object")
    return value


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """The header of `path`: tensor name to dtype, shape and data_offsets.

    Raises UserError when the file is no safetensors file or its length is not what the header promises, as after a
    download that broke off. Layout: 8 bytes of header length (little endian), the JSON header, the tensors' bytes
    (https://github.com/huggingface/safetensors#format).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise UserError("error.model_file_broken", file=str(path), reason="not a whole safetensors file")
            header = json.loads(file.read(length))
        end = max((int(info["data_offsets"][1]) for name, info in header.items() if name != "__metadata__"), default=0)
    except FileNotFoundError as error:
        raise UserError("error.model_file_missing", file=str(path)) from error
    except OSError as error:
        raise UserError("error.model_file_broken", file=str(path), reason=error.strerror or str(error)) from error
    except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise UserError("error.model_file_broken", file=str(path), reason="its header is unreadable") from error
    if size != 8 + length + end:
        reason = f"{size} bytes instead of {8 + length + end}"
        raise UserError("error.model_file_broken", file=str(path), reason=reason)
    assert isinstance(header, dict)  # noqa: S101 - .items() above has proved it
    return header


def find_weights(folder: Path, stem: str) -> Weights:
    """The safetensors files of the model in `folder`: whole, in shards with an index, or as an fp16 variant.

    `stem` is the library's file name without its ending. Raises UserError when there are none, and says so when what
    is there instead is a pickle.
    """
    for variant in (None, "fp16"):
        infix = f".{variant}" if variant else ""
        whole = folder / f"{stem}{infix}.safetensors"
        if whole.is_file():
            return Weights((whole,), variant)
        # diffusers writes the variant after "index", transformers before ".index".
        for name in (f"{stem}.safetensors.index{infix}.json", f"{stem}{infix}.safetensors.index.json"):
            index = folder / name
            if index.is_file():
                return Weights(_shards(index), variant)
    if folder.is_dir() and any(file.suffix in (".bin", ".ckpt", ".pt", ".pth") for file in folder.iterdir()):
        raise UserError("error.model_pickle_only", folder=str(folder))
    raise UserError("error.model_file_missing", file=str(folder / f"{stem}.safetensors"))


def check_weights(weights: Weights, roots: Sequence[Path]) -> None:
    """Raise UserError for a file that is not whole or lies outside `roots`."""
    for file in weights.files:
        resolve_inside(file, roots)
        read_safetensors_header(file)


def check_pipeline_folder(folder: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `folder` is a pipeline of the classes known here, with all its files."""
    kind = pipeline_kind(folder)
    for part in kind.weights:
        _check_model_part(folder / part, TRANSFORMERS_STEM if "encoder" in part else DIFFUSERS_STEM, roots)
    _check_files(folder, ("scheduler/scheduler_config.json",), roots)
    for tokenizer in kind.tokenizers:
        if kind.reads_with_t5(tokenizer):
            _check_t5_tokenizer(folder / tokenizer, roots)
        else:
            _check_tokenizer_files(folder / tokenizer, roots)


def pipeline_kind(folder: Path) -> PipelineKind:
    """What the pipeline in `folder` is made of, without the parts that it leaves out.

    Raises UserError for a model_index.json that names something else than what is known here.
    """
    index = read_json(folder / "model_index.json")
    check_model_index(folder / "model_index.json", index)
    kind = PIPELINES[index["_class_name"]]
    left_out = {name for name in kind.optional if index.get(name, _NOTHING) == _NOTHING}
    return replace(kind, parts={name: part for name, part in kind.parts.items() if name not in left_out})


def check_clip_folder(folder: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `folder` is a CLIP or SigLIP with its tokenizer and image processor, with all its files.

    A SigLIP needs `tokenizer.json`: its other form, `spiece.model`, takes a library that is not installed.
    """
    config = folder / "config.json"
    model_type = read_json(config).get("model_type")
    if model_type not in CONTRASTIVE:
        raise UserError("error.model_not_supported", file=str(config), name=str(model_type))
    _check_model_part(folder, TRANSFORMERS_STEM, roots)
    _check_processor_file(folder)
    if model_type == "clip":
        _check_tokenizer_files(folder, roots)
    else:
        _check_files(folder, ("tokenizer.json", "tokenizer_config.json"), roots)


def check_vit_folder(folder: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `folder` is a ViTForImageClassification with its image processor, with all its files."""
    config_file = folder / "config.json"
    config = read_json(config_file)
    model_type, architectures = config.get("model_type"), config.get("architectures") or ["ViTForImageClassification"]
    if model_type != "vit" or architectures != ["ViTForImageClassification"]:
        named = str(model_type) if model_type != "vit" else str(architectures)
        raise UserError("error.model_not_supported", file=str(config_file), name=named)
    _check_model_part(folder, TRANSFORMERS_STEM, roots)
    _check_processor_file(folder)


def check_rewriter_folder(folder: Path, roots: Sequence[Path], model_types: Mapping[str, str]) -> None:
    """Raise UserError unless `folder` is an encoder-decoder of `model_types` with its tokenizer, with all its files.

    `model_types` is config.json's model_type to the one class that is built from it.
    """
    config = folder / "config.json"
    found = read_json(config)
    expected = model_types.get(str(found.get("model_type")))
    named = found.get("architectures") or [found.get("model_type")]
    if expected is None or named != [expected]:
        raise UserError("error.model_not_supported", file=str(config), name=_listed(named))
    _check_model_part(folder, TRANSFORMERS_STEM, roots)
    _check_tokenizer_files(folder, roots)


def check_t5_folder(folder: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `folder` is a T5 or mT5 that writes text, with a tokenizer.json."""
    check_rewriter_folder(folder, roots, T5_CLASSES)


def check_bart_folder(folder: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `folder` is a BART that writes text, with its tokenizer."""
    check_rewriter_folder(folder, roots, BART_CLASSES)


def check_model_index(path: Path, index: Mapping[str, Any]) -> None:
    """Raise UserError when `index`, read from `path`, names a pipeline or a part that is not known here.

    diffusers would import what the file names; with `trust_remote_code=False` it refuses code beside the weights, and
    this refuses the rest (any class of any installed library) before diffusers is asked.
    """
    pipeline = index.get("_class_name")
    kind = PIPELINES.get(pipeline) if isinstance(pipeline, str) else None
    if kind is None:
        raise UserError("error.model_not_supported", file=str(path), name=str(pipeline))
    for name in kind.parts:
        if name not in index and name not in kind.optional:
            raise UserError("error.model_file_broken", file=str(path), reason=f"no {name}")
    for name, value in index.items():
        if isinstance(value, list):
            _check_part_class(path, kind, name, value)


def check_vocabulary(tokenizer_folder: Path, tokens: int, vocab_size: int) -> None:
    """Raise UserError when the tokenizer is not the one the text encoder was trained with.

    A tokenizer whose files are missing loads without a complaint, with a vocabulary of two tokens.
    """
    if tokens != vocab_size:
        raise UserError("error.tokenizer_mismatch", folder=str(tokenizer_folder), tokens=tokens, vocabulary=vocab_size)


def check_padded_vocabulary(tokenizer_folder: Path, tokens: int, vocab_size: int) -> None:
    """As `check_vocabulary`, for embeddings that are padded up to a multiple of 128, as T5's are (32,100 to 32,128)."""
    if not 0 <= vocab_size - tokens < _PADDED_TO:
        raise UserError("error.tokenizer_mismatch", folder=str(tokenizer_folder), tokens=tokens, vocabulary=vocab_size)


def _check_part_class(path: Path, kind: PipelineKind, name: str, value: Sequence[object]) -> None:
    expected = kind.parts.get(name) or UNUSED_PARTS.get(name)
    if list(value) == _NOTHING and (name in UNUSED_PARTS or name in kind.optional):
        return
    if expected is None or len(value) != 2 or value[0] != expected[0] or not re.fullmatch(expected[1], str(value[1])):
        named = ".".join(str(part) for part in value)
        raise UserError("error.model_foreign_class", file=str(path), part=name, name=named)


def _check_processor_file(folder: Path) -> None:
    if not any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        raise UserError("error.model_file_missing", file=str(folder / "preprocessor_config.json"))


def _check_model_part(folder: Path, stem: str, roots: Sequence[Path]) -> None:
    _check_files(folder, ("config.json",), roots)
    check_weights(find_weights(folder, stem), roots)


def _check_tokenizer_files(folder: Path, roots: Sequence[Path]) -> None:
    if (folder / "tokenizer.json").is_file():
        _check_files(folder, ("tokenizer.json",), roots)
    else:
        _check_files(folder, ("vocab.json",), roots)
        if not (folder / "merges.txt").is_file():
            raise UserError("error.model_file_missing", file=str(folder / "merges.txt"))


def reads_spiece(folder: Path) -> bool:
    """Whether a T5's tokenizer has to be read from SentencePiece's own file: there is no tokenizer.json."""
    return (folder / SPIECE).is_file() and not (folder / "tokenizer.json").is_file()


def _check_t5_tokenizer(folder: Path, roots: Sequence[Path]) -> None:
    """What `spiece.model` says is seen when it is read."""
    if reads_spiece(folder):
        resolve_inside(folder / SPIECE, roots)
        _check_files(folder, ("tokenizer_config.json",), roots)
    else:
        _check_files(folder, ("tokenizer.json",), roots)


def _check_files(folder: Path, names: Iterable[str], roots: Sequence[Path]) -> None:
    for name in names:
        resolve_inside(folder / name, roots)
        read_json(folder / name)


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("error.model_file_broken", file=str(index), reason="no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    if any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise UserError("error.model_file_broken", file=str(index), reason="a shard that is no file beside it")
    return tuple(index.parent / name for name in names)


def _listed(named: object) -> str:
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
