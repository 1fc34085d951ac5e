from __future__ import annotations

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from webui.security import LocalOnlyMiddleware, login_for
from webui.settings import Settings


def answer(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.fixture
def client() -> TestClient:
    app = Starlette(
        routes=[Route("/", answer, methods=["GET", "POST"])],
        middleware=[Middleware(LocalOnlyMiddleware, host="127.0.0.1")],
    )
    return TestClient(app, base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost:7860", "localhost", "[::1]:7860", "127.0.0.5", "LOCALHOST"]
)
def test_this_machine_is_welcome_under_its_names(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "["]
)
def test_a_rebound_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:7860"}, 200),
        ({"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_only_our_own_page_may_post(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/", headers=headers).status_code == status


def test_this_machine_alone_needs_no_login() -> None:
    assert login_for(Settings()) is None


def test_remote_mode_makes_up_a_new_password_each_time_when_none_is_given() -> None:
    first, second = login_for(Settings(host="0.0.0.0")), login_for(Settings(share=True))
    assert first is not None
    assert second is not None
    assert first.made_up
    assert len(first.password) >= 12
    assert first.password != second.password


def test_a_given_login_is_what_is_asked_for() -> None:
    login = login_for(Settings(share=True, login_name="ann", login_password=SecretStr("รหัส")))
    assert login is not None
    assert not login.made_up
    assert login.check("ann", "รหัส")
    assert not login.check("ann", "รหัส ")
    assert not login.check("bob", "รหัส")
    assert not login.check("", "")
