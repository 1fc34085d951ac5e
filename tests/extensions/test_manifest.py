from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.errors import UserError
from webui.extensions.manifest import Manifest, Needs, install_command, missing_packages, read_manifest

GOOD = 'id = "good_one"\nversion = "1.0"\napi = 1\ntitle = { en = "Good", th = "ดี" }\n'


def read(tmp_path: Path, content: str | bytes) -> Manifest:
    path = tmp_path / "extension.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_manifest(path)


def test_a_short_manifest_is_enough(tmp_path: Path) -> None:
    manifest = read(tmp_path, GOOD)
    assert (manifest.id, manifest.api, manifest.title.text("th"), manifest.needs) == ("good_one", 1, "ดี", Needs())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id = ", "Invalid value"),
        (b"\xff\xfe", "utf-8"),
        (GOOD.replace("good_one", "../evil"), "id:"),
        (GOOD.replace("good_one", "Good"), "id:"),
        (GOOD.replace("good_one", "a" * 41), "id:"),
        (GOOD.replace(', th = "ดี"', ""), "title.th:"),
        (GOOD.replace("api = 1", "api = 0"), "api:"),
        (GOOD.replace("api = 1", 'api = "1"'), "api:"),
        (GOOD.replace('"1.0"', '"1\\n2"'), "version:"),
        (GOOD + "autor = 1\n", "autor:"),
        (GOOD + '[needs]\npackages = ["not a requirement!"]\n', "needs.packages:"),
        ("#" * 70_000, "bytes"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, content)
    assert refused.value.key == "error.extension_manifest"
    assert says in str(refused.value.values["reason"])


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="extension_manifest"):
        read_manifest(tmp_path / "extension.toml")


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode), st.just(GOOD.encode()).flatmap(
    lambda good: st.tuples(st.integers(0, len(good)), st.binary(max_size=8)).map(
        lambda cut: good[: cut[0]] + cut[1] + good[cut[0] :])
)))  # fmt: skip
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with contextlib.suppress(UserError):  # whatever else it raises fails the test
        assert read_manifest(path).id


def test_only_what_is_missing_is_asked_for() -> None:
    needs = Needs(packages=["numpy>=1", "numpy>=999", "no-such-package-of-ours", "other; python_version < '3'"])
    missing = missing_packages(needs)
    assert missing == ("numpy>=999", "no-such-package-of-ours")
    assert install_command(missing).endswith("-m pip install 'numpy>=999' no-such-package-of-ours")
