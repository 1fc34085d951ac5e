from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extensions.prompt_styles import styles, wildcards
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.extensions.loading import load_extensions
from webui.studio import Studio
from webui.tasks.txt2img import draw_pictures

A1111 = (
    "\ufeffname,prompt,negative_prompt\r\nNone,,\r\n"
    'Cinema,"film still of {prompt}, 35mm","cartoon, ""flat"""\r\nThai,ภาพวาด,\r\n'
)


def test_styles_of_a1111_are_read(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(A1111.encode("utf-8"))
    read = styles.read_styles(path)
    assert list(read) == ["None", "Cinema", "Thai"]
    both = styles.styled("a cat", "", ["Cinema", "Thai", "unknown"], read)
    assert both == ("film still of a cat, 35mm, ภาพวาด", 'cartoon, "flat"')
    assert styles.read_styles(tmp_path / "none.csv") == {}


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\x00", b"x" * (2**20 + 1)])
def test_what_is_no_styles_file_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(content)
    with pytest.raises(styles.UnreadableError):
        styles.read_styles(path)


@given(st.text(max_size=200))
def test_any_text_is_styles_or_refused(content: str) -> None:
    try:
        read = styles.parse_styles(content)
    except styles.UnreadableError:
        return
    assert all(name == name.strip() != "" for name in read)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "body").mkdir()
    (tmp_path / "animal.txt").write_text("# no animal\n\ncat\ndog\n", encoding="utf-8")
    (tmp_path / "body" / "fur.txt").write_text("soft __animal__ fur", encoding="utf-8")
    (tmp_path / "loop.txt").write_text("__loop__", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / "สัตว์.txt").write_text("แมว\n", encoding="utf-8")
    return wildcards.find_wildcards(tmp_path)


def test_wildcards_are_filled_in_by_the_seed(files: dict[str, Path]) -> None:
    assert list(files) == ["animal", "body/fur", "empty", "loop", "สัตว์"]
    made = {wildcards.expanded("a __animal__, __body/fur__", files, seed) for seed in range(40)}
    assert made == {f"a {a}, soft {b} fur" for a in ("cat", "dog") for b in ("cat", "dog")}
    assert wildcards.expanded("__animal__", files, 7) == wildcards.expanded("__animal__", files, 7)
    assert wildcards.expanded("__สัตว์__ a__ b 1__", files, 0) == "แมว a__ b 1__"
    for name in ("nothing", "empty", "../animal"):
        with pytest.raises(wildcards.UnknownWildcardError, match=name):
            wildcards.expanded(f"__{name}__", files, 0)
    with pytest.raises(wildcards.EndlessWildcardError):
        wildcards.expanded("__loop__", files, 0)


@given(st.text(alphabet="_a b(,)\n", max_size=60))
def test_a_prompt_without_known_wildcards_stays_or_is_refused(prompt: str) -> None:
    with contextlib.suppress(wildcards.UnknownWildcardError):
        assert wildcards.expanded(prompt, {}, 1) == prompt


def test_the_shipped_extension_fills_in_what_is_drawn(studio: Studio) -> None:
    own = studio.settings.data_dir / "extension_data" / "prompt_styles" / "wildcards"
    own.mkdir(parents=True)
    (own / "animal.txt").write_text("heron\n")
    studio, extensions = load_extensions(studio)
    assert "prompt_styles" in {api.id for api in extensions.loaded}

    def draw(prompt: str) -> str:
        request = GenerateRequest(prompt, model="tiny", steps=1, seed=3)
        job = studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner="me", kind="txt2img")
        return job.result(120).pictures[0].infotext.splitlines()[0]

    assert draw("a __animal__ by __animal__") == "a heron by heron"
    with pytest.raises(UserError) as refused:
        draw("a __nothing__")
    assert "__nothing__" in studio.messages.error("th", refused.value)


def test_its_texts_are_in_both_languages(studio: Studio) -> None:
    studio, _ = load_extensions(studio)
    own = [key for key in studio.messages.tables["en"] if key.startswith("ext.prompt_styles.")]
    assert len(own) > 5
    module = sys.modules["diffuscope_extension_prompt_styles"]
    assert isinstance(module, ModuleType)
