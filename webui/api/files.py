"""GET /api/v1/files: what a request may name beside its model."""

from __future__ import annotations

from typing import Any, Final

from webui.errors import UserError
from webui.runtime.checkpoint_family import FileKind
from webui.runtime.weight_files import WeightFile
from webui.studio import Studio

_KINDS: Final = {"lora": FileKind.LORA, "inversion": FileKind.EMBEDDING, "vae": FileKind.VAE}
"""What a program calls them, in the order of the list."""


def list_files(studio: Studio, kind: str | None) -> dict[str, Any]:
    """The LoRA, textual inversions and VAE files, or those of one `kind`, by id. Raises UserError for no such kind."""
    if kind is not None and kind not in _KINDS:
        raise UserError("error.unknown_file_kind", name=kind[:100], known=", ".join(_KINDS))
    found = studio.catalog.extras(wait=True)
    wanted = _KINDS if kind is None else (kind,)
    return {"files": [_file(file, name) for name in wanted for file in found if file.kind is _KINDS[name]]}


def _file(file: WeightFile, kind: str) -> dict[str, Any]:
    """`context_width` is that of the text which it was trained with (768, 1024 or 2048), 0 where it does not say."""
    return {
        "id": file.id,
        "name": file.name,
        "kind": kind,
        "size_bytes": file.size_bytes,
        "context_width": file.context_width,
        "vectors": file.vectors,
        "usable": file.problem is None,
    }
