"""The recorded runs that ship beside the models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from webui.diffusion.trace import TRACE_SUFFIX
from webui.errors import UserError
from webui.settings import bundled_models_dir

TRACES_FOLDER: Final = "traces"


def bundled_traces() -> Mapping[str, Path]:
    """The shipped traces by name ("cat-blue"), in order; open them with `open_trace`."""
    found = bundled_models_dir().glob(f"*/{TRACES_FOLDER}/*{TRACE_SUFFIX}")
    return dict(sorted((path.stem, path) for path in found))


def find_bundled_trace(name: str) -> Path:
    """The shipped trace of that name; raises UserError that names those there are. A path is no name."""
    traces = bundled_traces()
    if name not in traces:
        raise UserError("error.trace_unknown", name=name[:60], known=", ".join(traces))
    return traces[name]
