"""How each family of models is built from its folder: which parts, which files, and what they make together.

One `Family` a task, in `FAMILIES`. To add a family, write a function that lists its parts and one that assembles them.
This module imports torch and the model libraries; it is imported inside the first load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
import transformers
from diffusers import SchedulerMixin, StableDiffusionPipeline
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPProcessor,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from webui.errors import UserError
from webui.runtime import memory, safety
from webui.runtime.contrastive import kind_of, load_siglip_processor
from webui.runtime.entries import BART, CLIP, T5, TXT2IMG, VAE, VIT
from webui.runtime.parts import Part
from webui.runtime.pipelines import STABLE_DIFFUSION, Half
from webui.runtime.shared_tokenizer import share
from webui.runtime.single_file import NO_CHECKER, assemble_checkpoint, checkpoint_parts
from webui.runtime.spiece import t5_tokenizer
from webui.runtime.vae_file import check_vae_file, vae_parts
from webui.runtime.weight_files import check_checkpoint

LOCAL: Final = {"local_files_only": True, "trust_remote_code": False}
_LOCAL_WEIGHTS: Final = {**LOCAL, "use_safetensors": True, "output_loading_info": True}

_RENAMED: Final = {"Transformer2DModel": "PixArtTransformer2DModel"}
"""Classes whose names in older model_index.json files mean another class today."""

_LIBRARY_COMPLAINTS: Final = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
"""What diffusers, transformers and safetensors raise about files that the checks in `safety` let through."""


@dataclass(frozen=True, slots=True)
class ClipModel:
    """What the manager hands out for the task "clip": a CLIPModel, SiglipModel or Siglip2Model, and its processor.

    Of the processor `tokenizer` and `image_processor` are used.
    """

    model: Any
    processor: Any


@dataclass(frozen=True, slots=True)
class VitModel:
    """What the task "vit" leases: the classifier and what prepares pictures for it."""

    model: ViTForImageClassification
    image_processor: ViTImageProcessorPil


@dataclass(frozen=True, slots=True)
class RewriterModel:
    """What the manager hands out for the tasks "t5" and "bart": an encoder-decoder that writes text.

    `model` is a T5ForConditionalGeneration, MT5ForConditionalGeneration or BartForConditionalGeneration.
    """

    model: Any
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class Family:
    """How the models of one task are built.

    `check` (folder, roots) raises UserError for what must not be read. `parts` are in the order in which they compute.
    `shareable` are the modules that another model may hold too, as "part" or "part.attribute". `save_memory` makes
    the built model use less working memory at the price of speed, `restore` undoes it. `half` (folder) is the 16-bit
    dtype for accelerators.
    """

    task: str
    check: Callable[[Path, Sequence[Path]], None]
    parts: Callable[[Path], tuple[Part, ...]]
    assemble: Callable[[Path, Mapping[str, nn.Module]], object]
    shareable: tuple[str, ...] = ()
    save_memory: Callable[[Any], None] | None = None
    restore: Callable[[Any], None] | None = None
    half: Callable[[Path], Half] = lambda _folder: "float16"


def load_part(part: Part, dtype: torch.dtype) -> nn.Module:
    """The part's module in RAM, ready for inference; the one place where eval mode and frozen weights are set.

    Raises UserError that names the part's file when the library cannot make sense of it.
    """
    _quieten_libraries()
    try:
        module = part.load(dtype)
    except _LIBRARY_COMPLAINTS as error:
        if memory.is_out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(part.files[0]), reason=reason) from error
    module.eval()
    module.requires_grad_(requires_grad=False)
    _check_finite(module, part.files[0])
    return module


def _check_finite(module: nn.Module, file: Path) -> None:
    """Raise UserError for a weight that is no number: one is enough to make every picture black.

    A sum is not finite when one of its terms is not; a sum that overflows is looked at number by number.
    """
    for name, tensor in module.named_parameters():
        if tensor.is_meta or torch.isfinite(tensor.sum(dtype=torch.float32)):
            continue
        if not torch.isfinite(tensor).all():
            raise UserError("error.weights_not_finite", file=str(file), name=name)


def _check_stable_diffusion(source: Path, roots: Sequence[Path]) -> None:
    """`source` is a folder, or a checkpoint in one file."""
    if source.is_file():
        check_checkpoint(source, roots)
    else:
        safety.check_pipeline_folder(source, roots)


def _stable_diffusion_parts(folder: Path) -> tuple[Part, ...]:
    """Text encoders, denoiser and VAE, loaded class by class: as the pipeline's own from_pretrained, but in steps."""
    if folder.is_file():
        return checkpoint_parts(folder)
    index = safety.read_json(folder / "model_index.json")
    return tuple(_pipeline_part(name, folder / name, index[name]) for name in safety.pipeline_kind(folder).weights)


def _pipeline_part(name: str, folder: Path, named: Sequence[str]) -> Part:
    """`named` are library and class, as `safety.check_model_index` has let them through."""
    library, class_name = named
    if library == "diffusers":
        return _diffusers_part(name, folder, getattr(diffusers, _RENAMED.get(class_name, class_name)))
    model_class = getattr(transformers, class_name)
    return _transformers_part(name, folder, model_class, model_class.config_class)


def _assemble_stable_diffusion(folder: Path, modules: Mapping[str, nn.Module]) -> Any:
    """The pipeline over `modules`: a `StableDiffusionPipeline`, or what model_index.json names."""
    if folder.is_file():
        return _silent(assemble_checkpoint(folder, modules))
    kind = safety.pipeline_kind(folder)
    options: dict[str, Any] = {name: None for name in kind.optional if name not in kind.parts}
    for name in kind.tokenizers:
        encoder: Any = modules[name.replace("tokenizer", "text_encoder")]
        load = _load_any_tokenizer if kind.reads_with_t5(name) else _load_tokenizer
        options[name] = load(folder / name, encoder.config.vocab_size)
    if kind.name in (STABLE_DIFFUSION.name, "LatentConsistencyModelPipeline"):
        options |= NO_CHECKER
    elif kind.name == "StableDiffusionXLPipeline":
        index = safety.read_json(folder / "model_index.json")
        zeros = index.get("force_zeros_for_empty_prompt", True) is not False
        options |= {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
    return _silent(getattr(diffusers, kind.name)(**modules, scheduler=_load_scheduler(folder), **options))


def _half_of_pipeline(source: Path) -> Half:
    return STABLE_DIFFUSION.half if source.is_file() else safety.pipeline_kind(source).half


def _silent(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _slice_and_tile(pipeline: StableDiffusionPipeline) -> None:
    """Pictures above the VAE's tile size are decoded in blended tiles; attention goes slice by slice."""
    pipeline.enable_attention_slicing()
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()


def _unslice(pipeline: StableDiffusionPipeline) -> None:
    pipeline.disable_attention_slicing()
    pipeline.vae.disable_slicing()
    pipeline.vae.disable_tiling()


def _clip_parts(folder: Path) -> tuple[Part, ...]:
    kind = kind_of(folder)
    return (_transformers_part("model", folder, kind.model, kind.config),)


def _assemble_clip(folder: Path, modules: Mapping[str, nn.Module]) -> ClipModel:
    model: Any = modules["model"]
    if model.config.model_type != "clip":
        try:
            return ClipModel(model, load_siglip_processor(folder, model))
        except _LIBRARY_COMPLAINTS as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError("error.model_file_broken", file=str(folder / "tokenizer.json"), reason=reason) from error
    tokenizer = _load_tokenizer(folder, model.config.text_config.vocab_size)
    image_processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return ClipModel(model, CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer))


def _vit_parts(folder: Path) -> tuple[Part, ...]:
    return (_transformers_part("model", folder, ViTForImageClassification, ViTConfig),)


def _assemble_vit(folder: Path, modules: Mapping[str, nn.Module]) -> VitModel:
    return VitModel(modules["model"], ViTImageProcessorPil.from_pretrained(folder, local_files_only=True))


def _rewriter_parts(folder: Path) -> tuple[Part, ...]:
    classes = {**safety.T5_CLASSES, **safety.BART_CLASSES}
    model_class = getattr(transformers, classes[safety.read_json(folder / "config.json")["model_type"]])
    return (_transformers_part("model", folder, model_class, model_class.config_class),)


def _assemble_rewriter(folder: Path, modules: Mapping[str, nn.Module]) -> RewriterModel:
    model: Any = modules["model"]
    return RewriterModel(model, _load_any_tokenizer(folder, model.config.vocab_size))


def _diffusers_part(name: str, folder: Path, model_class: Any) -> Part:
    weights = safety.find_weights(folder, safety.DIFFUSERS_STEM)

    def build_empty() -> nn.Module:
        module: nn.Module = model_class.from_config(model_class.load_config(folder, local_files_only=True))
        return module

    def load(dtype: torch.dtype) -> nn.Module:
        options = {**_LOCAL_WEIGHTS, "dtype": dtype, "variant": weights.variant}
        options.pop("trust_remote_code")  # a class that is named outright never looks for code beside the weights
        module, info = model_class.from_pretrained(folder, **options)
        return _complete(module, info, weights.files[0])

    return Part(name, weights.files, build_empty, load)


def _transformers_part(name: str, folder: Path, model_class: Any, config_class: Any) -> Part:
    weights = safety.find_weights(folder, safety.TRANSFORMERS_STEM)

    def build_empty() -> nn.Module:
        module: nn.Module = model_class(config_class.from_pretrained(folder, local_files_only=True))
        return module

    def load(dtype: torch.dtype) -> nn.Module:
        module, info = model_class.from_pretrained(folder, dtype=dtype, variant=weights.variant, **_LOCAL_WEIGHTS)
        return _complete(module, info, weights.files[0])

    return Part(name, weights.files, build_empty, load)


def _complete(module: nn.Module, info: Mapping[str, Any], file: Path) -> nn.Module:
    """The module, unless some of its weights were not in the file: both libraries would leave those random."""
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if missing:
        raise UserError("error.weights_incomplete", file=str(file), count=len(missing), name=missing[0])
    return module


def _load_tokenizer(folder: Path, vocab_size: int) -> CLIPTokenizer:
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, **LOCAL)
    except _LIBRARY_COMPLAINTS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(folder), reason=reason) from error
    safety.check_vocabulary(folder, len(tokenizer), vocab_size)
    return share(tokenizer)


def _load_any_tokenizer(folder: Path, vocab_size: int) -> Any:
    try:
        if safety.reads_spiece(folder):
            frame = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
            tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=t5_tokenizer(folder), **frame)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    except _LIBRARY_COMPLAINTS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(folder), reason=reason) from error
    safety.check_padded_vocabulary(folder, len(tokenizer), vocab_size)
    return share(tokenizer)


def _load_scheduler(folder: Path) -> SchedulerMixin:
    name = safety.read_json(folder / "model_index.json")["scheduler"][1]
    scheduler_class = getattr(diffusers, name, None)
    if not isinstance(scheduler_class, type) or not issubclass(scheduler_class, SchedulerMixin):
        index = str(folder / "model_index.json")
        raise UserError("error.model_foreign_class", file=index, part="scheduler", name=f"diffusers.{name}")
    loaded: Any = scheduler_class
    scheduler: SchedulerMixin = loaded.from_pretrained(folder / "scheduler", local_files_only=True)
    return scheduler


def _quieten_libraries() -> None:
    """No progress bars of their own: the manager reports the bytes read."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


_STABLE_DIFFUSION: Final = Family(
    task=TXT2IMG,
    check=_check_stable_diffusion,
    parts=_stable_diffusion_parts,
    assemble=_assemble_stable_diffusion,
    shareable=("text_encoder", "text_encoder_2", "text_encoder_3", "unet", "transformer", "vae"),
    save_memory=_slice_and_tile,
    restore=_unslice,
    half=_half_of_pipeline,
)

# The text tower of a CLIPModel is the CLIPTextModel that a pipeline trained on it holds.
_CLIP: Final = Family(
    task=CLIP,
    check=safety.check_clip_folder,
    parts=_clip_parts,
    assemble=_assemble_clip,
    shareable=("model.text_model",),
)

_VIT: Final = Family(task=VIT, check=safety.check_vit_folder, parts=_vit_parts, assemble=_assemble_vit)
_T5: Final = Family(task=T5, check=safety.check_t5_folder, parts=_rewriter_parts, assemble=_assemble_rewriter)
_BART: Final = Family(task=BART, check=safety.check_bart_folder, parts=_rewriter_parts, assemble=_assemble_rewriter)
_VAE: Final = Family(task=VAE, check=check_vae_file, parts=vae_parts, assemble=lambda _, modules: modules["vae"])

FAMILIES: Final[Mapping[str, Family]] = {
    family.task: family for family in (_STABLE_DIFFUSION, _CLIP, _VIT, _T5, _BART, _VAE)
}
