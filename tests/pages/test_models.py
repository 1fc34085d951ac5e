"""Who gets the Models page."""

from __future__ import annotations

from pathlib import Path

from webui.pages.frame import build_page
from webui.settings import Settings
from webui.studio import Studio, open_studio


def has_models(studio: Studio) -> bool:
    blocks = build_page(studio)
    return any(getattr(block, "elem_id", None) == "models-page" for block in blocks.blocks.values())


def test_the_owner_has_it_and_remote_visitors_do_not(studio: Studio, tmp_path: Path) -> None:
    assert has_models(studio)
    remote = open_studio(Settings(data_dir=tmp_path / "remote", host="0.0.0.0"))
    try:
        assert not has_models(remote)
    finally:
        remote.close()
