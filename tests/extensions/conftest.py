from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from webui.settings import Settings
from webui.studio import Studio, open_studio

MANIFEST = """
id = "{id}"
version = "1.0"
api = {api}
title = {{ en = "Test {id}", th = "ทดสอบ {id}" }}
[needs]
extensions = {needs}
packages = {packages}
"""


@pytest.fixture
def studio(tmp_path: Path, tiny_pipeline_folder: Path) -> Iterator[Studio]:
    """A studio over a folder of its own, with one tiny model."""
    shutil.copytree(tiny_pipeline_folder, tmp_path / "models" / "tiny")
    opened = open_studio(Settings(data_dir=tmp_path, port=0))
    yield opened
    opened.close()


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts an extension into the user's folder, as a user would."""

    def put(
        name: str,
        code: str = "def register(api): pass",
        *,
        id_: str | None = None,
        api: int = 1,
        needs: tuple[str, ...] = (),
        packages: tuple[str, ...] = (),
    ) -> Path:
        folder = tmp_path / "extensions" / name
        folder.mkdir(parents=True)
        manifest = MANIFEST.format(id=id_ or name, api=api, needs=list(needs), packages=list(packages))
        (folder / "extension.toml").write_text(manifest, encoding="utf-8")
        (folder / "extension.py").write_text(code, encoding="utf-8")
        return folder

    return put
