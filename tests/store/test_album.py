"""The album finds, marks, deletes and brings back; names that are no ids reach no file."""

from __future__ import annotations

import json
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.store.album import Album
from webui.store.export import write_zip
from webui.store.gallery import Gallery, SavedPicture
from webui.store.infotext import format_infotext

PROMPTS = ("a cat on a blue background", "two OWLS", "แมว พื้นหลังสีน้ำเงิน")


class Clock:
    """A day later at every look."""

    def __init__(self) -> None:
        self.day = datetime(2026, 1, 30)  # noqa: DTZ001 - the gallery's folders are named by local time

    def __call__(self) -> datetime:
        self.day += timedelta(days=1)
        return self.day


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "outputs", Clock())


@pytest.fixture
def saved(gallery: Gallery) -> list[SavedPicture]:
    return [save(gallery, prompt, seed) for seed, prompt in enumerate(PROMPTS)]


@pytest.fixture
def album(gallery: Gallery, tmp_path: Path, saved: list[SavedPicture]) -> Album:
    assert len(saved) == len(PROMPTS)
    return Album(gallery, tmp_path / "favourites.json")


def save(gallery: Gallery, prompt: str, seed: int) -> SavedPicture:
    return gallery.save(Image.new("RGB", (8, 8)), format_infotext(GenerateRequest(prompt), seed, 8, 8), seed)


def found(album: Album, words: str, *, favourites: bool = False) -> tuple[str, ...]:
    *_, last = album.search(words, favourites=favourites)
    return last.found


def test_the_newest_comes_first_and_words_find_in_any_capitals_and_both_languages(album: Album) -> None:
    owls, cat, thai = "2026-02-01/00001-1.png", "2026-01-31/00001-0.png", "2026-02-02/00001-2.png"
    assert album.pictures() == (thai, owls, cat)
    assert found(album, "") == album.pictures()
    assert found(album, "owls TWO") == (owls,)
    assert found(album, "แมว") == (thai,)
    assert found(album, "blue owls") == ()
    assert [reading.done for reading in album.search("cat")] == [1, 2, 3]


def test_words_are_read_anew_when_the_file_has_changed(album: Album, saved: list[SavedPicture]) -> None:
    assert found(album, "dog") == ()
    info = saved[1].path.read_bytes()
    saved[1].path.write_bytes(info.replace(b"two OWLS", b"two DOGS"))  # its CRC is wrong now: no infotext at all
    assert found(album, "owls") == ()


def test_favourites_last_and_a_damaged_list_is_said_and_not_written_over(album: Album, tmp_path: Path) -> None:
    cat = album.pictures()[2]
    album.mark(cat, favourite=True)
    again = Album(Gallery(tmp_path / "outputs"), tmp_path / "favourites.json")
    assert again.favourites() == {cat}
    assert found(again, "", favourites=True) == (cat,)
    again.mark(cat, favourite=False)
    assert json.loads((tmp_path / "favourites.json").read_text()) == []
    (tmp_path / "favourites.json").write_text('{"a": 1}')
    damaged = Album(Gallery(tmp_path / "outputs"), tmp_path / "favourites.json")
    with pytest.raises(UserError, match=r"favourites\.json"):
        damaged.mark(cat, favourite=True)
    assert (tmp_path / "favourites.json").read_text() == '{"a": 1}'


def test_what_is_deleted_comes_back_whole_until_the_bin_is_emptied(album: Album, gallery: Gallery) -> None:
    cat = album.pictures()[2]
    content = album.file(cat).read_bytes()
    album.mark(cat, favourite=True)
    assert album.delete([cat, "2026-01-31/00099-1.png", cat]) == (cat,)
    assert cat not in album.pictures()
    assert album.deleted() == (cat,)
    assert album.bytes_of([cat], in_bin=True) == len(content)
    with pytest.raises(UserError):
        album.file(cat)
    assert album.restore([cat]) == (cat,)
    assert album.file(cat).read_bytes() == content
    assert album.favourites() == {cat}
    album.delete([cat])
    assert album.empty_bin() == 1
    assert album.deleted() == ()
    assert album.favourites() == frozenset()
    assert list(gallery.outputs_dir.rglob("*-0.png")) == []


def test_a_number_in_the_bin_is_not_given_again(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, lambda: datetime(2026, 1, 31))  # noqa: DTZ001
    album = Album(gallery, tmp_path / "favourites.json")
    first = save(gallery, "a cat", 5)
    album.delete(album.pictures())
    assert save(gallery, "a dog", 5).path.name == "00002-5.png"
    assert album.restore(album.deleted()) == ("2026-01-31/00001-5.png",)
    assert first.path.is_file()


@pytest.mark.parametrize(
    "name",
    ["../favourites.json", "2026-01-31/../../x.png", "/etc/passwd", "2026-01-31\\00001-0.png", "", "2026-01-31"],
)
def test_a_name_that_is_no_id_reaches_no_file(album: Album, tmp_path: Path, name: str) -> None:
    (tmp_path / "favourites.json").write_text("[]")
    with pytest.raises(UserError):
        album.file(name)
    assert album.delete([name]) == ()
    assert album.restore([name]) == ()
    assert album.words(name) == ""
    assert (tmp_path / "favourites.json").exists()


def test_a_link_out_of_the_folder_is_no_picture(album: Album, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    link = tmp_path / "outputs" / "2026-01-31" / "00007-7.png"
    link.symlink_to(secret)
    with pytest.raises(UserError):
        album.file("2026-01-31/00007-7.png")


def test_a_zip_holds_the_files_and_a_given_up_one_leaves_nothing(album: Album, tmp_path: Path) -> None:
    files = {picture: album.file(picture) for picture in album.pictures()}
    target = tmp_path / "there" / "all.zip"
    assert list(write_zip(target, files)) == [1, 2, 3]
    with zipfile.ZipFile(target) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: path.read_bytes() for name, path in files.items()
        }
    given_up = write_zip(tmp_path / "other" / "all.zip", files)
    next(given_up)
    given_up.close()
    assert list((tmp_path / "other").iterdir()) == []
