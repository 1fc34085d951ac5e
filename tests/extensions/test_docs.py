"""The template in the docs is copied as a reader would copy it, and has to work as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.extensions import api as public
from webui.extensions.loading import load_extensions
from webui.pages.frame import build_page
from webui.studio import Studio

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "extensions.md").read_text(encoding="utf-8")


def template() -> dict[str, str]:
    """The two files that the docs ask for, by path."""
    return dict(re.findall(r"`(extensions/hello/[\w.]+)`:\n\n```\w+\n(.*?)```", DOCS, re.DOTALL))


def test_the_template_is_a_tab_in_ten_lines(studio: Studio) -> None:
    files = template()
    assert sorted(files) == ["extensions/hello/extension.py", "extensions/hello/extension.toml"]
    code = files["extensions/hello/extension.py"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    for path, content in files.items():
        target = studio.settings.data_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    studio, extensions = load_extensions(studio)
    assert {state.id: state.state for state in extensions.states}["hello"] == "on"
    blocks = build_page(studio, extensions)
    assert not studio.hooks.faults("hello")
    labels = {component["props"].get("label") for component in blocks.get_config_file()["components"]}
    assert {"Hello", "Your name"} <= labels
    (answer,) = [fn.fn for fn in blocks.fns.values() if fn.name == "<lambda>" and fn.fn.__module__.endswith("_hello")]
    assert answer("Ada") == "Hello, Ada!"


def named_in_docs() -> Iterator[str]:
    yield from re.findall(r"`(?:api|tab)\.(\w+)", DOCS)


def test_every_call_in_the_docs_is_there_and_every_method_is_in_the_docs() -> None:
    there = {name for name in (*vars(public.ExtensionAPI), *vars(public.Panel), *vars(public.Tab)) if name[0] != "_"}
    named = set(named_in_docs())
    assert named - there <= {"source"}  # set when it is made
    undocumented = {name for name in vars(public.ExtensionAPI) if name[0] != "_"} - named
    assert undocumented <= {"id", "key"}


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in (ROOT / "extensions").glob("*/extension.toml")))
def test_the_shipped_ones_use_the_public_api_only(folder: str) -> None:
    for path in (ROOT / "extensions" / folder).rglob("*.py"):
        for module in re.findall(r"(?:from|import) (webui[\w.]*)", path.read_text(encoding="utf-8")):
            assert module == "webui.extensions.api", path
    assert f"`{folder}`" in (ROOT / "extensions" / "README.md").read_text(encoding="utf-8")
    assert f"!/extensions/{folder}/" in (ROOT / ".gitignore").read_text(encoding="utf-8")
