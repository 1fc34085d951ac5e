from __future__ import annotations

import _thread
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from webui.errors import UserError
from webui.extensions.isolation import FailedError, run_isolated
from webui.extensions.loading import Extensions, ExtensionState, load_extensions, switch_extension
from webui.studio import Studio
from webui.views.extensions import extension_lines, render_extensions

Write = Callable[..., Path]
MARK = "from pathlib import Path\ndef register(api):\n    (Path(__file__).parent / 'ran').touch()\n"


def states(extensions: Extensions) -> dict[str, ExtensionState]:
    """Those of the user's, by folder."""
    return {state.folder.name: state for state in extensions.states if not state.bundled}


def why(state: ExtensionState) -> str:
    assert state.state == "refused"
    assert state.problem is not None
    return state.problem.key


def test_the_broken_ones_are_refused_with_their_reason_and_the_rest_loads(studio: Studio, write: Write) -> None:
    write("a_raises", "def register(api):\n    raise RuntimeError('my own mistake')")
    write("b_hangs", "import threading\ndef register(api):\n    threading.Event().wait()")
    write("c_exits", "import sys\nsys.exit(3)")
    write("d_syntax", "def register(api)\n")
    write("e_empty", "")
    write("f_newer", MARK, api=99)
    write("g_first", id_="twin")
    write("h_second", MARK, id_="twin")
    write("i_poor", MARK, packages=("no-such-package-of-ours",))
    write("j_lonely", MARK, needs=("nobody",))
    write("k_good", MARK)
    (write("l_headless") / "extension.toml").unlink()

    _, extensions = load_extensions(studio, time_limit=2.0)
    found = states(extensions)

    assert why(found["a_raises"]) == "error.extension_raised"
    assert "my own mistake" in found["a_raises"].traceback
    assert "isolation.py" not in found["a_raises"].traceback
    assert why(found["b_hangs"]) == "error.extension_hung"
    assert "wait()" in found["b_hangs"].traceback
    for name in ("c_exits", "d_syntax", "e_empty"):
        assert why(found[name]) == "error.extension_raised"
    assert why(found["f_newer"]) == "error.extension_newer_api"
    assert found["g_first"].state == "on"
    assert why(found["h_second"]) == "error.extension_clash"
    assert why(found["i_poor"]) == "error.extension_needs_packages"
    assert "pip install no-such-package-of-ours" in str(found["i_poor"].problem)
    assert why(found["j_lonely"]) == "error.extension_needs_extension"
    assert why(found["l_headless"]) == "error.extension_manifest"
    assert found["k_good"].state == "on"
    ran = {path.parent.name for path in (studio.settings.data_dir / "extensions").glob("*/ran")}
    assert ran == {"k_good"}, "code of a refused extension has run"
    assert not [name for name in sys.modules if name.startswith("diffuscope_extension_a_raises")]


def test_an_order_follows_the_needs(studio: Studio, write: Write) -> None:
    write("aa", needs=("zz",))
    write("mm", needs=("aa",))
    write("zz")
    write("x1", needs=("x2",))
    write("x2", needs=("x1",))
    _, extensions = load_extensions(studio)
    assert [api.id for api in extensions.loaded if api.id in ("aa", "mm", "zz")] == ["zz", "aa", "mm"]
    assert why(states(extensions)["x1"]) == why(states(extensions)["x2"]) == "error.extension_needs_each_other"


def test_one_that_needs_a_broken_one_is_refused(studio: Studio, write: Write) -> None:
    write("base", "raise OSError")
    write("above", MARK, needs=("base",))
    _, extensions = load_extensions(studio)
    assert why(states(extensions)["above"]) == "error.extension_needs_one_that_is_off"


def test_what_registers_after_a_failure_or_too_late_has_no_effect(studio: Studio, write: Write) -> None:
    half = (
        "from webui.extensions.api import ImageSaved\n"
        "def register(api):\n    api.listen(ImageSaved, print)\n    api.add_prompt_tool(print)\n    1 / 0"
    )
    write("half", half)
    write("late", "def register(api): pass")
    _, extensions = load_extensions(studio)
    from webui.hooks import ImageSaved

    assert not studio.hooks.wanted(ImageSaved)
    late = next(api for api in extensions.loaded if api.id == "late")
    with pytest.raises(RuntimeError, match="in register"):
        late.listen(ImageSaved, print)


def test_safe_mode_runs_nothing(studio: Studio, write: Write) -> None:
    import dataclasses

    folder = write("good", MARK)
    safe = dataclasses.replace(studio, settings=studio.settings.model_copy(update={"safe_mode": True}))
    _, extensions = load_extensions(safe)
    assert not extensions.loaded
    assert {state.state for state in extensions.states} == {"safe_mode"}
    assert not (folder / "ran").exists()
    assert list(extension_lines(extensions, studio.messages.translator("en"))) == [
        "Safe mode: no extension was loaded."
    ]


def test_a_switch_holds_from_the_next_start(studio: Studio, write: Write) -> None:
    folder = write("good", MARK)
    _, extensions = load_extensions(studio)
    (folder / "ran").unlink()
    switch_extension(studio, extensions, "good", on=False)
    _, extensions = load_extensions(studio)
    assert states(extensions)["good"].state == "off"
    assert not (folder / "ran").exists()
    switch_extension(studio, extensions, "good", on=True)
    assert json.loads((studio.settings.data_dir / "extensions.json").read_text()) == {"off": []}
    _, extensions = load_extensions(studio)
    assert states(extensions)["good"].state == "on"


def test_remote_mode_and_strange_ids_change_nothing(studio: Studio, write: Write) -> None:
    import dataclasses

    write("good")
    _, extensions = load_extensions(studio)
    remote = dataclasses.replace(studio, settings=studio.settings.model_copy(update={"host": "0.0.0.0"}))
    with pytest.raises(UserError, match="extensions_are_the_owners"):
        switch_extension(remote, extensions, "good", on=False)
    with pytest.raises(UserError, match="unknown_extension"):
        switch_extension(studio, extensions, "../good", on=False)
    assert not (studio.settings.data_dir / "extensions.json").exists()


@pytest.mark.parametrize("content", ["", "[", "[]", '{"off": 3}', '{"off": [3]}'])
def test_a_broken_switch_file_switches_nothing_off(studio: Studio, write: Write, content: str) -> None:
    write("good")
    (studio.settings.data_dir / "extensions.json").write_text(content)
    _, extensions = load_extensions(studio)
    assert states(extensions)["good"].state == "on"


def test_the_list_escapes_what_extensions_say(studio: Studio, write: Write) -> None:
    folder = write("evil", "raise RuntimeError('<img src=x onerror=alert(1)>')")
    manifest = folder / "extension.toml"
    manifest.write_text(manifest.read_text("utf-8").replace("Test evil", "<b>evil</b>"), encoding="utf-8")
    studio, extensions = load_extensions(studio)
    for language in ("en", "th"):
        say = studio.messages.translator(language)
        page = render_extensions(extensions, frozenset(), folder, studio.hooks.faults, say)
        assert "<img" not in page
        assert "<b>" not in page
        assert "&lt;img" in page
    off = render_extensions(extensions, frozenset({"evil"}), folder, studio.hooks.faults, say)
    assert off.count(studio.messages.text("th", "extension.restart")) == 1


def test_ctrl_c_while_an_extension_loads_is_not_its_fault(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_isolated(lambda: (_thread.interrupt_main(), time.sleep(2)), tmp_path, 30)


def interrupted() -> None:
    raise KeyboardInterrupt


def test_an_extension_cannot_say_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(FailedError):
        run_isolated(interrupted, tmp_path, 30)
