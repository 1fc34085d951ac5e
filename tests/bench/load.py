"""50 people at once for a minute over the real server: what is drawn, refused in words, lost, and who waits how long.

Half of them are programs on the REST API, half are open pages on Gradio's queue; each has a login of their own, asks
for one picture at a time and, when refused, asks again after a pause. It is done once with the limits of a shared page,
where everybody has a place in line, and once with a quarter as many places as people. A wait is the time
from asking to having the picture. An answer that is neither a picture nor a sentence, and a picture that is not whole
in the outputs folder, is lost.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from tests.e2e.served import Served, serve
from webui.i18n import load_messages
from webui.security.logins import hash_password

CLIENTS = 50
SECONDS = 60.0
STEPS = 8
PAUSE = 1.0
POLL = 0.3
PROMPT = "a cat on a blue background"
PASSWORD = "load"
PATIENCE = httpx.Timeout(300.0)


@dataclass
class Client:
    """One person, and what became of what they asked for."""

    number: int
    http: httpx.AsyncClient
    kind: str
    waits: list[float] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    refused: int = 0
    lost: list[str] = field(default_factory=list)

    def seeds(self) -> Iterator[int]:
        """Seeds that nobody else uses, so that a file can be told from all others."""
        return count(1_000_000 * (self.number + 1))


def run() -> dict[str, object]:
    """The figures of both ways."""
    return {
        "clients": f"{CLIENTS}, half REST and half pages, {SECONDS:.0f} s, {STEPS} steps a picture, emoji model",
        "usual_limits": _measure(""),
        "few_places": _measure(f"max_waiting_users = {CLIENTS // 4}\n"),
    }


def _measure(config: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [f"user{number}:{hash_password(PASSWORD)}" for number in range(CLIENTS)]
        (folder / "logins").write_text("\n".join(lines), encoding="utf-8")
        (folder / "config.toml").write_text(config + "index_outputs = false\n", encoding="utf-8")
        served = serve(folder, folder / "models", 0, "--host", "0.0.0.0", "--auth-file", str(folder / "logins"))
        try:
            return asyncio.run(_crowd(served))
        finally:
            served.stop()


async def _crowd(served: Served) -> dict[str, object]:
    clients = [
        Client(number, httpx.AsyncClient(base_url=served.url, timeout=PATIENCE), "rest" if number % 2 else "page")
        for number in range(CLIENTS)
    ]
    try:
        for client in clients:
            form = {"username": f"user{client.number}", "password": PASSWORD}
            assert (await client.http.post("login", data=form)).status_code == 303
        page = Page.read((await clients[0].http.get("config")).json())
        await _one_by_rest(clients[1], 1)  # torch and the model are loaded
        clients[1].waits.clear()
        clients[1].acknowledged.clear()
        before = _memory(served)
        ways = {"rest": _one_by_rest, "page": page.one}
        end = time.monotonic() + SECONDS
        await asyncio.gather(*(_ask_on(client, ways[client.kind], end) for client in clients))
        return _figures(clients, served, before)
    finally:
        for client in clients:
            await client.http.aclose()


async def _ask_on(client: Client, one: Callable[[Client, int], Awaitable[None]], end: float) -> None:
    """One picture after the other until the time is over; what is asked for by then is waited for."""
    for seed in client.seeds():
        if time.monotonic() > end:
            return
        try:
            await one(client, seed)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            client.lost.append(repr(error))
            await asyncio.sleep(PAUSE)


async def _one_by_rest(client: Client, seed: int) -> None:
    asked = time.monotonic()
    answer = await client.http.post("api/v1/generate", json={"prompt": PROMPT, "steps": STEPS, "seed": seed})
    if answer.status_code == 429:
        await _refused(client, answer.json()["error"]["message"])
        return
    job = answer.json()["url"].lstrip("/")
    while (said := (await client.http.get(job)).json())["state"] in ("queued", "running"):
        await asyncio.sleep(POLL)
    if said["state"] != "done" or [picture["seed"] for picture in said["pictures"]] != [seed]:
        client.lost.append(f"{said['state']}: {said['error']}")
        return
    _has(client, seed, asked)


@dataclass(frozen=True)
class Page:
    """What the page sends when "Generate" is pressed: the event, and the form's values by their place."""

    event: int
    data: tuple[Any, ...]
    fields: dict[str, int]
    refusal: re.Pattern[str]

    @classmethod
    def read(cls, config: dict[str, Any]) -> Page:
        """From what Gradio tells every page that opens."""
        parts = {part["id"]: part["props"] for part in config["components"]}
        empty = {part["id"]: "" for part in config["components"] if part["type"] == "textbox"}
        named = {props.get("elem_id"): id_ for id_, props in parts.items()}
        presses = [one for one in config["dependencies"] if [named["generate"], "click"] in one["targets"]]
        press = next(one for one in presses if named["prompt"] in one["inputs"])
        values = {id_: props["value"] for id_, props in parts.items() if props.get("value") is not None}
        data = tuple((empty | values).get(id_) for id_ in press["inputs"])
        fields = {name: press["inputs"].index(named[name]) for name in ("prompt", "steps", "seed")}
        words = re.split(r"\{\w+\}", load_messages().tables["en"]["error.queue_full"])
        return cls(press["id"], data, fields, re.compile(r"\w+".join(map(re.escape, words))))

    async def one(self, client: Client, seed: int) -> None:
        """Press the button and follow what the page is sent until the event has ended."""
        asked, session = time.monotonic(), f"page{client.number}x{seed}"
        data = list(self.data)
        for name, value in (("prompt", PROMPT), ("steps", STEPS), ("seed", seed)):
            data[self.fields[name]] = value
        body = {"data": data, "fn_index": self.event, "session_hash": session}
        joined = await client.http.post("gradio_api/queue/join", json=body)
        if joined.status_code == 429:
            await _refused(client, joined.json()["error"]["message"])
            return
        joined.raise_for_status()
        shown = refused = False
        async with client.http.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
            async for line in stream.aiter_lines():
                said = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                shown = shown or f"Seed: {seed}," in line
                refused = refused or self.refusal.search(line) is not None
                if said.get("msg") == "process_completed":
                    break
        if shown:
            _has(client, seed, asked)
        elif refused:
            await _refused(client, "shown on the page")
        else:
            client.lost.append(f"the page ended with {said}"[:300])
            await asyncio.sleep(PAUSE)


def _has(client: Client, seed: int, asked: float) -> None:
    client.waits.append(time.monotonic() - asked)
    client.acknowledged.append(seed)


async def _refused(client: Client, words: str) -> None:
    if not words:
        client.lost.append("refused without a word")
    client.refused += 1
    await asyncio.sleep(PAUSE)


def _figures(clients: Sequence[Client], served: Served, before: float) -> dict[str, object]:
    kept = _kept_seeds(served.outputs)
    missing = [seed for client in clients for seed in client.acknowledged if seed not in kept]
    waits = sorted(wait for client in clients for wait in client.waits)
    reasons = [reason for client in clients for reason in client.lost]
    return {
        "finished": len(waits),
        "finished_by": {kind: _pictures(clients, kind) for kind in ("rest", "page")},
        "refused_in_words": sum(client.refused for client in clients),
        "lost": len(reasons) + len(missing),
        "why_lost": reasons[:5] + [f"no whole file of seed {seed}" for seed in missing[:5]],
        "wait_p50_s": round(statistics.median(waits), 2),
        "wait_p95_s": round(waits[int(0.95 * (len(waits) - 1))], 2),
        "largest_share": max(len(client.waits) for client in clients),
        "smallest_share": min(len(client.waits) for client in clients),
        "memory_mib_at_start": round(before),
        "memory_mib_at_end": round(_memory(served)),
        "tracebacks_in_log": sum("Traceback" in line for line in served.said),
    }


def _pictures(clients: Sequence[Client], kind: str) -> int:
    return sum(len(client.waits) for client in clients if client.kind == kind)


def _kept_seeds(outputs: Path) -> set[int]:
    """The seeds of the pictures that lie whole in the folder."""
    seeds = set()
    for path in outputs.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
        seeds.add(int(path.stem.partition("-")[2]))
    return seeds


def _memory(served: Served) -> float:
    """Resident MiB of the server and what it has started."""
    process = psutil.Process(served.process.pid)
    return float(sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))) / 2**20
