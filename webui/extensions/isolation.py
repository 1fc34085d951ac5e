"""Runs an extension's code where it can fail or hang without taking the program along."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from webui.extensions.manifest import ENTRY_NAME
from webui.runtime.patience import within

TIME_LIMIT: Final = 10.0
"""Seconds that an extension may take to load, and each of its tabs to be built."""
_MODULE_PREFIX: Final = "diffuscope_extension_"


class FailedError(Exception):
    """The code raised; `trace` is its traceback, from the extension's own lines on."""

    def __init__(self, error: BaseException, folder: Path) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.trace = _own_trace(error, folder)


def run_isolated(work: Callable[[], object], folder: Path, seconds: float = TIME_LIMIT) -> None:
    """Run `work`, the code of the extension in `folder`, in a thread of its own; raises FailedError or HungError."""

    def charged() -> None:
        try:
            work()
        except BaseException as error:  # also an exit: it is the extension that ends, not the program
            raise FailedError(error, folder) from error

    within(seconds, charged, f"extension-{folder.name}")


def import_entry(extension: str, folder: Path) -> ModuleType:
    """Import `extension.py` as a package of its own name, so that `from .grid import ...` finds the files beside it."""
    name = _MODULE_PREFIX + extension
    spec = importlib.util.spec_from_file_location(name, folder / ENTRY_NAME, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / ENTRY_NAME} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def forget_modules(extension: str) -> None:
    """Leave nothing of an extension that did not load among the imported modules."""
    name = _MODULE_PREFIX + extension
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


def _own_trace(error: BaseException, folder: Path) -> str:
    """The traceback without the frames of the loader, which say nothing to the extension's author."""
    lines = traceback.TracebackException.from_exception(error)
    own = [place for place, frame in enumerate(lines.stack) if Path(frame.filename).is_relative_to(folder)]
    if own:
        lines.stack = traceback.StackSummary.from_list(lines.stack[own[0] :])
    return "".join(lines.format())
