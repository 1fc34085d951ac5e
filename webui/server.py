"""Serves the page and the REST API until the process is told to stop."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request

from webui.api.health import health_routes
from webui.api.pictures import picture_routes
from webui.api.routes import api_routes
from webui.errors import UserError
from webui.extensions.loading import Extensions, load_extensions
from webui.i18n import Translator
from webui.pages.frame import build_page
from webui.pages.looks import page_head, page_theme
from webui.runtime.log import log_plainly
from webui.security.gate import VISITOR, Gate, Guard, guard_for
from webui.security.logins import Logins
from webui.security.visitors import Visitor
from webui.settings import CONFIG_NAME, Settings
from webui.share.tunnel import Share, open_link
from webui.store.links import PREFIX
from webui.studio import Studio
from webui.views.extensions import extension_lines

_MAX_OPEN_RUNS = 200
"""Pages whose run is followed at the same time; each keeps a thread, which mostly sleeps."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A page that is being served. `logins` is what it asks for, None on this machine alone.

    `cache` is where uploads and served copies lie.
    """

    blocks: gr.Blocks
    url: str
    share: Share
    logins: Logins | None
    cache: Path
    extensions: Extensions = field(default_factory=Extensions)


@contextmanager
def running_server(studio: Studio) -> Iterator[RunningServer]:
    """Serve the page from a thread of its own as long as the context lasts.

    Raises UserError when the port is taken.
    """
    settings = studio.settings
    head = page_head(settings.language, studio.messages)
    with _cache_folder(settings) as cache:
        guard = guard_for(settings, studio.messages, uploads=cache, pictures=PREFIX, head=head)
        studio, extensions = load_extensions(studio)
        share = Share()
        blocks = build_page(studio, extensions, share)
        try:
            _, url, _ = blocks.launch(**_launch_options(studio, guard, head))
        except OSError as error:
            raise UserError("error.port_taken", host=settings.host, port=settings.port) from error
        try:
            if settings.wants_link:
                _make_link(share, blocks, settings, cache)
            yield RunningServer(blocks, url, share, guard.logins, cache, extensions)
        finally:
            share.close()
            blocks.close(verbose=False)


def serve(studio: Studio) -> None:
    """Serve the page until Ctrl-C or SIGTERM, and say where it is; blocks, and belongs in the main thread."""
    say = studio.messages.translator(studio.settings.language or "en")
    log_plainly()
    with running_server(studio) as server, _told_to_stop() as stop:
        log_plainly()  # the web server has come since, with a log of its own
        for line in (*_greeting(server, studio.settings, say), *extension_lines(server.extensions, say)):
            print(line, flush=True)  # noqa: T201 - this is what the command says
        stop.wait()
    print(say.text("server.stopped"), flush=True)  # noqa: T201


def _launch_options(studio: Studio, guard: Guard, head: str) -> dict[str, Any]:
    settings = studio.settings
    secrets = [settings.data_dir / CONFIG_NAME, settings.models_dir, settings.auth_file]
    application = {
        "middleware": [Middleware(Gate, guard=guard)],
        "routes": [*api_routes(studio), *health_routes(studio), *picture_routes(studio)],
        "docs_url": None,
        "redoc_url": None,
    }
    return {
        "server_name": settings.host,
        "server_port": settings.port or _free_port(settings.host),
        "share": False,  # ours says what is wrong, and does not spin while it waits
        "auth_dependency": _visitor_id if settings.remote else None,
        "theme": page_theme(),
        "head": head,
        "favicon_path": str(files("webui").joinpath("assets", "logo.svg")),
        "allowed_paths": [str(settings.outputs_dir)],
        "blocked_paths": [str(path) for path in secrets if path is not None],
        "max_file_size": settings.max_upload_mb * 1024 * 1024,
        "max_threads": _MAX_OPEN_RUNS,
        "app_kwargs": application,
        "prevent_thread_lock": True,
        "quiet": True,
        "inline": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": [],
        "pwa": False,
        # Gradio's own look whether the page is there gives it three seconds, too few for a busy machine, and then ends.
        "_frontend": False,
    }


def _make_link(share: Share, blocks: gr.Blocks, settings: Settings, folder: Path) -> None:
    """Make the public link; the page goes on without one where that fails, and says why."""
    host, token = str(blocks.server_name), blocks.share_token
    try:
        share.link = open_link(host, blocks.server_port, server=settings.share_server, folder=folder, token=token)
    except UserError as error:
        share.problem = error


def _visitor_id(request: Request) -> str | None:
    """Who the gate has let in: what Gradio calls the user's name."""
    visitor: Visitor | None = request.scope.get(VISITOR)
    return None if visitor is None else visitor.id


@contextmanager
def _cache_folder(settings: Settings) -> Iterator[Path]:
    """Uploads and served copies lie in the data folder, not in a temporary folder that all users share.

    Where the data folder cannot be written, what was saved can still be looked at: then they lie in a folder that
    nobody else can open, and that goes when the server ends.
    """
    folder = settings.data_dir / "cache" / "page"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        with tempfile.TemporaryDirectory(prefix="diffuscope-", ignore_cleanup_errors=True) as own:
            os.environ["GRADIO_TEMP_DIR"] = own
            yield Path(own)
    else:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        yield folder


def _free_port(host: str) -> int:
    """A port that is free now, for settings that leave the choice to the system (port 0)."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host.strip("[]"), 0))
        return int(probe.getsockname()[1])


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C interrupts as usual."""
    stop = threading.Event()

    def tell(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _greeting(server: RunningServer, settings: Settings, say: Translator) -> Iterator[str]:
    yield say.text("server.address", url=server.url)
    if not server.cache.is_relative_to(settings.data_dir):
        yield say.text("server.read_only", folder=settings.data_dir)
    if server.share.link is not None:
        yield say.text("server.share_address", url=server.share.link.url)
    elif server.share.problem is not None:
        yield say.error(server.share.problem)
    if server.logins is not None:
        name, password = server.logins.made_up or (", ".join(server.logins.names), say.text("server.password_as_set"))
        yield say.text("server.login", name=name, password=password)
    yield say.text("server.how_to_stop")
