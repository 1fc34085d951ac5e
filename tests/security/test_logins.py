from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from webui.errors import UserError
from webui.security.logins import (
    TRIES_PER_ADDRESS,
    TRIES_PER_NAME,
    TRIES_SECONDS,
    Logins,
    hash_password,
    logins_for,
    read_auth_file,
)
from webui.security.visitors import LOGIN_SECONDS, Visitors
from webui.settings import Settings

HERE = "127.0.0.1"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(clock: Clock) -> Logins:
    return Logins({"ann": hash_password("secret")}, clock=clock)


def refused(logins: Logins, name: str, address: str = HERE) -> UserError:
    with pytest.raises(UserError) as caught:
        logins.check(name, "wrong", address)
    return caught.value


def test_this_machine_alone_needs_no_login() -> None:
    assert logins_for(Settings()) is None


def test_remote_mode_makes_up_a_new_password_each_time_when_none_is_given() -> None:
    first, second = logins_for(Settings(host="0.0.0.0")), logins_for(Settings(share=True))
    assert first is not None
    assert second is not None
    assert first.made_up is not None
    assert second.made_up is not None
    name, password = first.made_up
    assert len(password) >= 12
    assert password != second.made_up[1]
    assert first.check(name, password, HERE)
    assert not second.check(name, password, HERE)


def test_a_given_login_is_what_is_asked_for() -> None:
    logins = logins_for(Settings(share=True, login_name="ann", login_password=SecretStr("รหัส")))
    assert logins is not None
    assert logins.made_up is None
    assert logins.check("ann", "รหัส", HERE)
    for name, password in (("ann", "รหัส "), ("bob", "รหัส"), ("", ""), ("ann", ""), ("ann", "\ud800")):
        assert not logins.check(name, password, HERE)


def test_a_password_is_kept_as_an_argon2_hash_only() -> None:
    logins = Logins({"ann": hash_password("secret")})
    assert logins.check("ann", "secret", HERE)
    assert "secret" not in repr(vars(logins))
    assert hash_password("secret").startswith("$argon2id$")
    assert hash_password("secret") != hash_password("secret")


def test_an_address_that_is_wrong_too_often_waits(logins: Logins, clock: Clock) -> None:
    for number in range(TRIES_PER_ADDRESS):
        assert not logins.check(f"nobody {number}", "wrong", HERE)
    assert refused(logins, "ann").values["seconds"] == TRIES_SECONDS + 1
    assert not logins.check("ann", "wrong", "203.0.113.9")
    clock.now += TRIES_SECONDS + 1
    assert not logins.check("ann", "wrong", HERE)


def test_a_name_that_is_tried_from_many_addresses_waits_too(logins: Logins) -> None:
    for number in range(TRIES_PER_NAME):
        assert not logins.check("ann", "wrong", f"203.0.113.{number}")
    assert refused(logins, "ann", "203.0.113.200").key == "error.too_many_logins"


def test_who_is_in_is_not_locked_out_by_anothers_tries(logins: Logins) -> None:
    assert logins.check("ann", "secret", HERE)
    for number in range(TRIES_PER_NAME):
        logins.check("ann", "wrong", f"203.0.113.{number}")
    assert logins.check("ann", "secret", HERE)


def test_a_file_holds_several_logins(tmp_path: Path) -> None:
    file = tmp_path / "logins"
    file.write_text(f"# friends\n\nann:{hash_password('a')}\n  คุณบี:{hash_password('b')}  \n", encoding="utf-8")
    logins = logins_for(Settings(share=True, auth_file=file))
    assert logins is not None
    assert logins.names == ("ann", "คุณบี")
    assert logins.check("คุณบี", "b", HERE)
    assert not logins.check("คุณบี", "a", HERE)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "error.auth_file_empty"),
        ("# nobody", "error.auth_file_empty"),
        ("ann:plain words", "error.auth_file_line"),
        ("ann:$argon2id$v=19$broken", "error.auth_file_line"),
        ("ann:HASH\nann:HASH", "error.auth_file_twice"),
    ],
)
def test_a_file_that_is_not_logins_is_said_without_its_words(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "logins"
    file.write_text(text.replace("HASH", hash_password("a")), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_auth_file(file)
    assert caught.value.key == key
    assert "plain words" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("none", "binary", "."):
        with pytest.raises(UserError, match="auth_file_unreadable"):
            read_auth_file(tmp_path / name)


@given(st.text(max_size=200))
def test_any_text_is_logins_or_one_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any-logins"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        logins = read_auth_file(file)
    except UserError:
        return
    assert logins


def test_a_login_lasts_a_week(clock: Clock) -> None:
    visitors = Visitors(0, clock)
    token = visitors.enter("ann")
    assert visitors.of(token) is not None
    assert visitors.of("") is None
    assert visitors.of(token + "x") is None
    clock.now += LOGIN_SECONDS + 1
    assert visitors.of(token) is None


def test_a_page_belongs_to_whoever_came_first(clock: Clock) -> None:
    visitors = Visitors(0, clock)
    ann, bob = (visitors.of(visitors.enter(name)) for name in ("ann", "bob"))
    assert ann is not None
    assert bob is not None
    assert visitors.claim("page", ann)
    assert not visitors.claim("page", bob)
    assert visitors.claim("page", ann)
    assert visitors.claim("another", bob)


def test_calls_come_back_with_time(clock: Clock) -> None:
    visitors = Visitors(60, clock)
    ann = visitors.of(visitors.enter("ann"))
    assert ann is not None
    for _ in range(20):
        visitors.spend(ann)
    with pytest.raises(UserError, match="too_many_calls"):
        visitors.spend(ann)
    clock.now += 1
    visitors.spend(ann)
    with pytest.raises(UserError, match="too_many_calls"):
        visitors.spend(ann)
