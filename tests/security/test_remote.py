"""A shared page over real HTTP: no second door, and nobody reaches what is another's."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
import pytest

from tests.security.conftest import PASSWORDS, Shared
from webui.errors import UserError
from webui.security.routes import PUBLIC
from webui.security.rules import OWNER_ONLY, Deed, check, may
from webui.settings import Settings

BrowserOf = Callable[[str], httpx.Client]


def addresses(shared: Shared) -> list[tuple[str, str]]:
    """Every method and path that the server knows, with something in place of the parameters."""
    found = []
    for route in shared.server.blocks.server_app.routes:
        path = re.sub(r"\{[^}]+\}", "x", getattr(route, "path", ""))
        found += [(method, path) for method in sorted(getattr(route, "methods", None) or {"GET"})]
    return found


def test_no_route_answers_without_a_login(shared: Shared, browser_of: BrowserOf) -> None:
    stranger, tried = browser_of(""), 0
    for method, path in addresses(shared):
        if path in PUBLIC or path == "/logout":
            continue
        tried += 1
        answer = stranger.request(method, path, json={"data": [], "session_hash": "s", "fn_index": 0})
        assert answer.status_code in (401, 404), f"{method} {path}: {answer.status_code}"
    assert tried >= 30


@pytest.mark.parametrize("call", ["run/predict", "queue/join", "cancel", "reset", "component_server", "upload"])
def test_gradios_calls_want_the_login_too(shared: Shared, browser_of: BrowserOf, call: str) -> None:
    body = shared.call("_recent", [], "s")
    assert browser_of("").post(f"gradio_api/{call}", json=body).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/call/x", "gradio_api/call/v2/x", "gradio_api/proxy=http://x", "gradio_api/vibe-code",
        "gradio_api/deep_link?session_hash=s", "?deep_link=x", "monitoring", "monitoring/summary", "gradio_api/runs",
        "gradio_api/dev/reload", "gradio_api/openapi.json", "gradio_api/token", "gradio_api/stream/x", "docs",
    ],
)  # fmt: skip
def test_routes_that_the_page_does_not_use_are_not_there(browser_of: BrowserOf, path: str) -> None:
    ann = browser_of("ann")
    assert ann.get(path).status_code == 404
    assert ann.post(path, json={}).status_code == 404


def test_the_page_is_there_after_the_login_and_gone_after_leaving(browser_of: BrowserOf) -> None:
    ann = browser_of("ann")
    assert ann.get("/").status_code == 200
    assert "components" in ann.get("config").json()
    assert ann.post("logout").status_code == 303
    assert ann.get("config").status_code == 401


def test_a_browser_without_a_login_is_led_to_it(browser_of: BrowserOf) -> None:
    stranger = browser_of("")
    answer = stranger.get("/", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    asked = stranger.get("login", headers={"accept-language": "th"})
    assert 'lang="th"' in asked.text
    assert "รหัสผ่าน" in asked.text
    wrong = stranger.post("login", data={"username": '"><img src=x onerror=alert(1)>', "password": "no"})
    assert wrong.status_code == 401
    assert "<img" not in wrong.text


def test_the_cookie_is_for_the_server_alone(shared: Shared) -> None:
    form = {"username": "ann", "password": PASSWORDS["ann"]}
    cookie = httpx.post(shared.url + "login", data=form).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    behind = httpx.post(shared.url + "login", data=form, headers={"x-forwarded-proto": "https"})
    assert "Secure" in behind.headers["set-cookie"]


def test_another_web_site_cannot_use_the_login(shared: Shared, browser_of: BrowserOf) -> None:
    ann, body = browser_of("ann"), shared.call("_recent", [], "csrf")
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert ann.post("gradio_api/run/predict", json=body, headers=headers).status_code == 403
        assert ann.post("api/v1/generate", json={"prompt": "x"}, headers=headers).status_code == 403
        assert ann.post("logout", headers=headers).status_code == 403
    assert ann.post("gradio_api/run/predict", json=body, headers={"origin": shared.url.rstrip("/")}).status_code == 200
    assert ann.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


def test_a_session_cannot_be_used_by_another_login(shared: Shared, browser_of: BrowserOf) -> None:
    ann, bob, session = browser_of("ann"), browser_of("bob"), "annsession1"
    body = shared.call("_recent", [], session)
    assert ann.post("gradio_api/run/predict", json=body).status_code == 200
    event = ann.post("gradio_api/queue/join", json=body).json()["event_id"]
    stop = {"session_hash": session, "fn_index": 0, "event_id": event}
    asked = {"session_hash": session, "component_id": 1, "fn_name": "x", "data": None}
    assert bob.post("gradio_api/run/predict", json=body).status_code == 403
    assert bob.post("gradio_api/queue/join", json=body).status_code == 403
    assert bob.post("gradio_api/cancel", json=stop).status_code == 403
    assert bob.post("gradio_api/component_server", json=asked).status_code == 403
    assert bob.get(f"gradio_api/queue/data?session_hash={session}").status_code == 403
    assert bob.get(f"gradio_api/queue/data?session_hash={session}&session_hash=bobs").status_code == 403
    assert bob.get(f"gradio_api/heartbeat/{session}").status_code == 403
    assert browser_of("ann").post("gradio_api/run/predict", json=body).status_code == 403, "a second login of ann"
    assert ann.post("gradio_api/run/predict", json=body).status_code == 200


def test_a_call_without_a_session_is_refused(shared: Shared, browser_of: BrowserOf) -> None:
    """All of them would share the session without a name."""
    ann, body = browser_of("ann"), shared.call("_recent", [], "s")
    for session in (None, "", 7, ["s"]):
        assert ann.post("gradio_api/run/predict", json=body | {"session_hash": session}).status_code == 403
    del body["session_hash"]
    assert ann.post("gradio_api/run/predict", json=body).status_code == 403
    assert ann.post("gradio_api/run/predict", content=b"[" * 100_000).status_code == 400


def test_jobs_and_pictures_of_the_api_are_their_owners(shared: Shared, browser_of: BrowserOf) -> None:
    ann, bob = browser_of("ann"), browser_of("bob")
    asked = ann.post("api/v1/generate", json={"prompt": "cat", "model": "tiny", "steps": 1})
    assert asked.status_code == 202, asked.text
    job = asked.json()["url"].lstrip("/")
    for path in (job, f"{job}/trace", f"{job}/pictures/0"):
        assert bob.get(path).status_code == 404
    assert bob.post(f"{job}/cancel").status_code == 404
    assert httpx.get(shared.url + job, auth=("bob", PASSWORDS["bob"])).status_code == 404
    deadline = time.monotonic() + 120
    while ann.get(job).json()["state"] in ("waiting", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ann.get(f"{job}/pictures/0").headers["content-type"] == "image/png"


def test_what_others_have_drawn_is_not_served_read_or_offered(shared: Shared, browser_of: BrowserOf) -> None:
    picture = shared.studio.settings.outputs_dir / "2026-01-01" / "00001-1.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"png")
    bob = browser_of("bob")
    assert bob.get(f"gradio_api/file={picture}").status_code == 403
    file = {"path": str(picture), "meta": {"_type": "gradio.FileData"}}
    for value in (file, {"path": str(picture)}):
        answer = bob.post("gradio_api/run/predict", json=shared.call("_read_picture", [value], "bobs"))
        assert answer.status_code == 403
    offered = bob.post("gradio_api/run/predict", json=shared.call("_recent", [], "bobs"))
    assert offered.json()["data"] == [[]]


def test_programs_send_the_login_with_each_call(shared: Shared) -> None:
    url = shared.url + "api/v1/models"
    assert httpx.get(url, auth=("ann", PASSWORDS["ann"])).status_code == 200
    refused = httpx.get(url, auth=("ann", PASSWORDS["bob"]))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert httpx.get(url, headers={"authorization": "Basic %%%"}).status_code == 401
    assert httpx.get(shared.url + "config", auth=("ann", PASSWORDS["ann"])).status_code == 401, (
        "a browser would resend it"
    )


def test_too_much_at_once_is_refused(shared: Shared, browser_of: BrowserOf) -> None:
    ann = browser_of("ann")
    large = {"files": ("big.png", b"x" * 2_000_000)}
    assert ann.post("gradio_api/upload", files=large).status_code == 413
    assert ann.post("gradio_api/upload", content=endless(), headers=MULTIPART).status_code == 413
    many = [("files", (f"{number}.png", b"x")) for number in range(1500)]
    assert ann.post("gradio_api/upload", files=many).status_code == 400
    assert ann.post("gradio_api/run/predict", content=endless()).status_code == 413
    assert ann.post("api/v1/generate", content=endless()).status_code == 413
    assert ann.post("login", content=endless()).status_code == 413


def test_a_visitor_who_calls_without_end_must_wait(shared: Shared, browser_of: BrowserOf) -> None:
    ann, bob, body = browser_of("ann"), browser_of("bob"), {"event_id": "x"}
    answers = [ann.post("gradio_api/reset", json=body) for _ in range(shared.studio.settings.calls_per_minute)]
    assert answers[0].status_code == 200
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["key"] == "error.too_many_calls"
    assert int(refused.headers["retry-after"]) > 0
    assert bob.post("gradio_api/reset", json=body).status_code == 200


def test_wrong_passwords_are_few(shared: Shared) -> None:
    def attempt(password: str, address: str) -> int:
        form, headers = {"username": "eve", "password": password}, {"x-forwarded-for": address}
        return httpx.post(shared.url + "login", data=form, headers=headers).status_code

    answers = [attempt(f"guess {number}", "203.0.113.5") for number in range(12)]
    assert answers[:10] == [401] * 10
    assert answers[10:] == [429] * 2
    assert attempt("guess", "203.0.113.6") == 401, "from another address there is another limit"


def test_the_page_lists_what_visitors_cannot_do(shared: Shared, browser_of: BrowserOf) -> None:
    config = browser_of("ann").get("config").json()
    said = next(part for part in config["components"] if part["props"].get("elem_id") == "sharing")["props"]["value"]
    assert set(OWNER_ONLY) == set(Deed)
    for key in OWNER_ONLY.values():
        assert shared.studio.messages.text("en", key) in said
    assert "1 MB" in said


@pytest.mark.parametrize("deed", list(Deed))
def test_the_owner_may_on_this_machine_alone(deed: Deed) -> None:
    here, shared = Settings(), Settings(share=True)
    assert may(here, deed)
    check(here, deed)
    assert not may(shared, deed)
    with pytest.raises(UserError, match="owner_only"):
        check(shared, deed)


MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def endless():  # type: ignore[no-untyped-def]  # noqa: ANN201
    """A body whose length is not said; longer than anything that is taken."""
    yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    for _ in range(1200):
        yield b"x" * 10_000


def test_health_needs_no_login_and_metrics_are_off(browser_of: BrowserOf) -> None:
    stranger, ann = browser_of(""), browser_of("ann")
    assert stranger.get("healthz").status_code == 200
    assert stranger.get("readyz").json() == {"ready": True, "missing": []}
    assert stranger.get("metrics").status_code == 401
    assert ann.get("metrics").status_code == 404
