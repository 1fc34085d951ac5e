"""LoRA on a loaded pipeline: added for one run through peft, and taken off again exactly (Hu et al. 2021).

W x becomes W x + weight * (alpha / rank) * B A x in the layers that the file names. The model's own tensors are never
written to: peft wraps the layers, and unwrapping gives back the same modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors.torch import load_file
from torch import nn

from webui.errors import UserError
from webui.runtime import safety

_PARTS: Final = ("unet", "text_encoder", "text_encoder_2")
_PAIRS: Final = (
    ("lora_down.weight", "lora_up.weight"),
    ("lora.down.weight", "lora.up.weight"),
    ("lora_A.weight", "lora_B.weight"),
)
_COMPLAINTS: Final = (ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError, OSError)


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A file in kohya's or diffusers' names, and its weight in this run."""

    path: Path
    weight: float


@contextmanager
def loras_applied(
    pipe: Any, loras: Sequence[LoraFile], building: AbstractContextManager[None], leaving: AbstractContextManager[None]
) -> Iterator[None]:
    """Inside, `pipe` draws with all of `loras` added up; afterwards it is what it was, bit for bit.

    `building` and `leaving` are held while layers are put in and taken out (the manager's construction lock). Raises
    UserError for a file that does not belong to this model, or that holds something else than LoRA; then nothing of
    any of them stays.
    """
    if not loras:
        yield
        return
    if not hasattr(pipe, "unet"):
        raise UserError("error.lora_not_for_model", file=str(loras[0].path))
    names = [f"lora_{number}" for number in range(len(loras))]
    try:
        with building:
            for name, lora in zip(names, loras, strict=True):
                _add(pipe, name, lora.path)
            pipe.set_adapters(names, [lora.weight for lora in loras])
            for part in _parts(pipe):
                getattr(pipe, part).requires_grad_(requires_grad=False).eval()
        yield
    finally:
        with leaving:
            pipe.unload_lora_weights()


def _add(pipe: Any, name: str, file: Path) -> None:
    tensors = load_file(file)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError("error.weights_not_finite", file=str(file), name=key)
    try:
        found, _ = pipe.lora_state_dict(_scaled(tensors), unet_config=pipe.unet.config)
        found = {_text_layer(key): tensor for key, tensor in found.items()}
        targets = {part: _peft_names(pipe, part, found) for part in _parts(pipe)}
    except _COMPLAINTS as error:
        raise _unreadable(file, error) from error
    left = [key for key in found if key.partition(".")[0] not in targets]
    if left or not any(targets.values()):
        raise UserError("error.lora_other_layers", file=str(file), name=left[0] if left else "-")
    for part, layers in targets.items():
        _check_targets(file, getattr(pipe, part), layers)
    try:
        options = {"network_alphas": None, "metadata": _metadata(file), "adapter_name": name}
        # Without the pipeline, whose hooks diffusers would replace by its own: parts may be taking turns here.
        if targets["unet"]:
            pipe.load_lora_into_unet(found, unet=pipe.unet, **options)
        for part, layers in targets.items():
            if layers and part != "unet":
                pipe.load_lora_into_text_encoder(found, text_encoder=getattr(pipe, part), prefix=part, **options)
    except _COMPLAINTS as error:
        raise _unreadable(file, error) from error


def _parts(pipe: Any) -> tuple[str, ...]:
    """The parts of this pipeline that a LoRA may change: SDXL has two text encoders."""
    return tuple(part for part in _PARTS if getattr(pipe, part, None) is not None)


def _scaled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with each layer's alpha / rank multiplied into its B, and no alpha left.

    The libraries match alphas to layers by patterns over their names, which differ between versions of the encoder.
    """
    scaled = {key: tensor for key, tensor in tensors.items() if not key.endswith(".alpha")}
    for key in tensors.keys() - scaled.keys():
        layer = key.removesuffix(".alpha")
        for down, up in _PAIRS:
            if f"{layer}.{down}" in scaled:
                factor = float(tensors[key]) / scaled[f"{layer}.{down}"].shape[0]
                scaled[f"{layer}.{up}"] = scaled[f"{layer}.{up}"].float() * factor
    return scaled


def _metadata(file: Path) -> dict[str, Any] | None:
    """The settings that diffusers writes into a LoRA of its own; None in other files: their scale is in the tensors."""
    written = safety.read_safetensors_header(file).get("__metadata__") or {}
    found = json.loads(written.get(LORA_ADAPTER_METADATA_KEY, "{}"))
    return found or None


def _text_layer(key: str) -> str:
    """A name of the text encoder in diffusers' second form; its first is recognised only where all four are there."""
    if not key.startswith(("text_encoder.", "text_encoder_2.")):
        return key
    for first, second in (("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj")):
        key = key.replace(f".{first}_lora.", f".{second}.lora_linear_layer.")
    return key


def _peft_names(pipe: Any, part: str, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The part's tensors under peft's names: "down_blocks.0.attentions.0.to_q.lora_A.weight"."""
    own = {key.removeprefix(f"{part}."): tensor for key, tensor in found.items() if key.startswith(f"{part}.")}
    if part == "unet":
        return own if any("lora_A" in key for key in own) else dict(convert_unet_state_dict_to_peft(own))
    named = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own)) if own else {}
    wrapped = hasattr(getattr(pipe, part), "text_model")
    return {key if wrapped else key.removeprefix("text_model."): tensor for key, tensor in named.items()}


def _check_targets(file: Path, module: nn.Module, layers: dict[str, torch.Tensor]) -> None:
    """Raise UserError for a layer that this model has not, or has in another width."""
    known = dict(module.named_modules())
    for key, tensor in layers.items():
        name, _, rest = key.partition(".lora_")
        layer: Any = known.get(name)
        weight = getattr(layer, "weight", None) if not hasattr(layer, "base_layer") else layer.base_layer.weight
        if weight is None:
            raise UserError("error.lora_other_layers", file=str(file), name=name)
        side, own = (1, weight.shape[1]) if rest.startswith("A") else (0, weight.shape[0])
        if tensor.ndim < 2 or tensor.shape[side] != own:
            raise UserError("error.lora_other_width", file=str(file), name=name, shape=list(tensor.shape), width=own)


def _unreadable(file: Path, error: BaseException) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return UserError("error.lora_unreadable", file=str(file), reason=reason)
