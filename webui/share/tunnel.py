"""Makes the public link: starts the tunnel program that Gradio uses, and says in one sentence why there is no link."""

from __future__ import annotations

import queue
import re
import subprocess
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from webui.errors import UserError

GRADIO_LINK_LASTS: Final = timedelta(days=7)
_PATIENCE_SECONDS: Final = 30.0
_LOOK_UP: Final = "https://api.gradio.app/v3/tunnel-request"
_LINK: Final = re.compile(r"start proxy success: (https?://[^\s'\"<>]+)")
_REFUSED: Final = "login to server failed"


@dataclass(frozen=True, slots=True)
class TunnelServer:
    """Where the tunnel leads to; `certificate` is what that server is known by, None for a server of one's own."""

    address: str
    certificate: Path | None = None
    lasts: timedelta | None = None


@dataclass(slots=True, eq=False)
class ShareLink:
    """A public address, as long as the program runs. `ends` is when it ends at the latest, None if nobody says."""

    url: str
    ends: datetime | None
    process: subprocess.Popen[str] = field(repr=False)

    @property
    def open(self) -> bool:
        """Whether the tunnel is still there."""
        return self.process.poll() is None

    def close(self) -> None:
        """End the tunnel program."""
        _end(self.process)


@dataclass(slots=True, eq=False)
class Share:
    """What the page shows of the link: it is made only after the page is served, or cannot be made."""

    link: ShareLink | None = None
    problem: UserError | None = None

    def close(self) -> None:
        """End the link, if there is one."""
        if self.link is not None:
            self.link.close()


def open_link(host: str, port: int, *, server: str | None, folder: Path, token: str) -> ShareLink:
    """A link to the page at `host`:`port` over `server` ("host:port"), or over Gradio's for a week at most.

    `folder` keeps the certificate of Gradio's server; `token` is the secret that names the tunnel. Raises UserError
    that says the remedy: no network, the program is missing, is blocked, or its server refuses.
    """
    program = _program()
    tunnel = TunnelServer(server) if server is not None else _gradios_server(folder)
    command = [str(program), "http", "-n", token, "-l", str(port), "-i", host, "--uc", "--sd", "random", "--ue"]
    command += ["--server_addr", tunnel.address, "--disable_log_color"]
    if tunnel.certificate is not None:
        command += ["--tls_enable", "--tls_trusted_ca_file", str(tunnel.certificate)]
    try:
        process = subprocess.Popen(  # noqa: S603 - every argument is ours or checked by the settings
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise UserError("error.share_blocked", program=str(program), reason=error.strerror or str(error)) from error
    try:
        url = _read_link(process, tunnel.address)
    except UserError:
        _end(process)
        raise
    return ShareLink(url, None if tunnel.lasts is None else datetime.now(UTC) + tunnel.lasts, process)


def _program() -> Path:
    """The tunnel program, downloaded once; Gradio checks it against the sum that it knows."""
    import httpx
    from gradio.exceptions import ChecksumMismatchError
    from gradio.tunneling import BINARY_PATH, BINARY_URL, Tunnel

    program = Path(BINARY_PATH)
    if program.is_file():
        return program
    try:
        Tunnel.download_binary()
    except ChecksumMismatchError as error:
        program.unlink(missing_ok=True)
        raise UserError("error.share_program_damaged", url=BINARY_URL) from error
    except (httpx.HTTPError, OSError) as error:
        program.unlink(missing_ok=True)
        raise UserError("error.share_program_missing", url=BINARY_URL, path=str(program)) from error
    if not program.is_file():
        raise UserError("error.share_blocked", program=str(program), reason="it vanished")
    return program


def _gradios_server(folder: Path) -> TunnelServer:
    import httpx

    try:
        told = httpx.get(_LOOK_UP, timeout=_PATIENCE_SECONDS).raise_for_status().json()[0]
        address, certificate = f"{told['host']}:{int(told['port'])}", str(told["root_ca"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError("error.share_no_network") from error
    file = folder / "share-server.pem"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(certificate, encoding="utf-8")
    return TunnelServer(address, file, GRADIO_LINK_LASTS)


def _read_link(process: subprocess.Popen[str], server: str) -> str:
    """The address that the program prints. Raises UserError when it refuses, ends, or stays silent."""
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), name="share-tunnel", daemon=True).start()
    last = ""
    try:
        while (line := lines.get(timeout=_PATIENCE_SECONDS)) is not None:
            if match := _LINK.search(line):
                return match[1]
            last = " ".join(line.split())[:200] or last
            if _REFUSED in line:
                break
    except queue.Empty:
        raise UserError("error.share_silent", server=server) from None
    raise UserError("error.share_refused", server=server, reason=last or "-")


def _pump(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    """Hand on what the program says until it ends; it would stand still if nobody read."""
    with stream:
        for line in stream:
            if lines.qsize() < 1000:
                lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
