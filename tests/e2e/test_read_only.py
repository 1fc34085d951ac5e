"""A data folder on a disk that became read-only, as Linux mounts one with errors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.e2e.conftest import Visitors
from tests.e2e.driver import RUN_MS
from tests.e2e.served import Served, serve
from webui.diffusion.request import GenerateRequest
from webui.store.gallery import Gallery
from webui.store.infotext import format_infotext

READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@pytest.fixture
def read_only(tmp_path: Path) -> tuple[str, ...]:
    """Before a command: it sees the folder read-only, root or not; nobody else does."""
    own_mounts = ("unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, str(tmp_path))
    probe = [*own_mounts, "sh", "-c", '! touch "$0/probe"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("nobody may make a mount of their own here")
    return own_mounts


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A picture of an earlier day."""
    infotext = format_infotext(GenerateRequest("a saved cat"), 7, 16, 16)
    return Gallery(tmp_path / "outputs").save(Image.new("RGB", (16, 16), "red"), infotext, 7).path


@pytest.fixture
def stuck(tmp_path: Path, saved: Path, read_only: tuple[str, ...]) -> Iterator[Served]:
    """A server that can read its data folder, with the picture in it, and not write there."""
    assert saved.is_file()
    served = serve(tmp_path, tmp_path / "models", under=read_only)
    yield served
    served.process.kill()
    served.process.wait(60)


def test_what_was_saved_is_shown_and_what_cannot_be_kept_is_said(
    tmp_path: Path, saved: Path, stuck: Served, visitors_of: Callable[[Served], Visitors]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    create = visitors_of(stuck).visit()
    create.open_tab("Gallery")
    create.page.locator("#gallery-grid [data-open]").first.click()
    expect(create.page.locator("#gallery-full img")).to_be_visible()
    expect(create.page.locator("#gallery-page")).to_contain_text("a saved cat")
    create.open_tab("Create")
    create.set("steps", 1)
    create.generate.click()
    expect(create.alert).to_contain_text("There is no permission to write in", timeout=RUN_MS)
    create.page.close()
    assert stuck.stop() == 0
    said = "".join(stuck.said)
    assert f"The folder {tmp_path} cannot be written: what was saved can be looked at" in said
    assert "Traceback" not in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert saved in before
