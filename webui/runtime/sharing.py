"""Modules that several models hold exist once.

Two pipelines over the same VAE, or a pipeline and the CLIP model whose text tower it was trained on, bring equal
weights in different files. So equality is decided by content, after loading: same class, same configuration, every
tensor equal bit for bit. The new copy is then dropped for the one that is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import nn

_UNIMPORTANT: Final = {"architectures", "dtype", "torch_dtype", "transformers_version"}
"""Configuration entries that say where a model came from, not what it computes."""


def share_modules(
    modules: dict[str, nn.Module], shareable: Iterable[str], loaded: Iterable[Mapping[str, nn.Module]]
) -> dict[str, nn.Module]:
    """`modules` with each shareable one replaced by its equal from the `loaded` models (name to module), if any.

    `shareable` names are "part" or "part.attribute"; the attribute of a part is replaced in place. A part that this
    model does not have is passed over.
    """
    candidates = [module for others in loaded for module in others.values()]
    result = dict(modules)
    for name in shareable:
        part, _, attribute = name.partition(".")
        if part not in result:
            continue
        own = result[part] if not attribute else getattr(result[part], attribute)
        equal = next((module for module in candidates if same_module(own, module)), None)
        if equal is None:
            continue
        if attribute:
            setattr(result[part], attribute, equal)
        else:
            result[part] = equal
    return result


def shareable_modules(modules: Mapping[str, nn.Module], shareable: Iterable[str]) -> dict[str, nn.Module]:
    """The modules named by `shareable`, for `share_modules` of a later model."""
    found: dict[str, nn.Module] = {}
    for name in shareable:
        part, _, attribute = name.partition(".")
        if part not in modules:
            continue
        found[name] = getattr(modules[part], attribute) if attribute else modules[part]
    return found


def same_module(one: nn.Module, other: nn.Module) -> bool:
    """Whether the two compute the same: class, configuration and every tensor are equal."""
    if type(one) is not type(other) or _configuration(one) != _configuration(other):
        return False
    own, others = one.state_dict(), other.state_dict()
    if own.keys() != others.keys():
        return False
    if any((own[name].shape, own[name].dtype) != (others[name].shape, others[name].dtype) for name in own):
        return False
    if any(tensor.is_meta for tensor in (*own.values(), *others.values())):
        return False  # laid out by accelerate; what it holds cannot be seen from here
    return all(torch.equal(tensor, others[name].to(tensor.device)) for name, tensor in own.items())


def tensors_of(modules: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    """Every parameter and buffer once."""
    seen: set[int] = set()
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def bytes_by_device(modules: Iterable[nn.Module]) -> dict[str, int]:
    """Bytes of weights by the type of device they lie on; a tensor that two modules hold counts once."""
    sizes: dict[str, int] = {}
    for tensor in tensors_of(modules):
        device = tensor.device.type
        sizes[device] = sizes.get(device, 0) + tensor.nbytes
    return sizes


def _configuration(module: nn.Module) -> dict[str, Any]:
    config: Any = getattr(module, "config", None)
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config or {})
    return {
        name: list(value) if isinstance(value, tuple) else value  # a configuration that was read from JSON has lists
        for name, value in values.items()
        if not name.startswith("_") and name not in _UNIMPORTANT
    }
