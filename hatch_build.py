"""Build hook: the wheel carries the emoji suite, so that a picture can be drawn anywhere, and the extensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BundledModels(BuildHookInterface[BuilderConfig]):
    """Adds `models/emoji` (as `webui/bundled/emoji`) and the extensions; an editable install reads the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to include; raises FileNotFoundError when the suite or its weights are missing."""
        if version == "editable":
            return
        suite = Path(self.root) / "models" / "emoji"
        if not (suite / "suite.json").is_file() or not any(suite.rglob("*.safetensors")):
            raise FileNotFoundError(f"{suite} has no trained weights; a wheel without them could draw nothing")
        build_data["force_include"][str(suite)] = "webui/bundled/emoji"
        for manifest in sorted((Path(self.root) / "extensions").glob("*/extension.toml")):
            for file in sorted(manifest.parent.rglob("*")):
                if file.is_file() and file.suffix != ".pyc":
                    name = file.relative_to(manifest.parents[1]).as_posix()
                    build_data["force_include"][str(file)] = f"webui/bundled_extensions/{name}"
