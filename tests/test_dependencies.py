"""The exact versions that everybody installs, asked about at a public service of known vulnerabilities (OSV).

Without a network the audit is skipped, and pytest's summary says so and why. By hand:
`python -m pip_audit --requirement constraints.txt --no-deps --disable-pip --vulnerability-service osv`
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
ANSWER_SECONDS = 5
ALL_SECONDS = 120
_NO_ANSWER = re.compile(r"requests\.exceptions\.\w+: .*|.*Could not connect.*|.*ServiceError.*")


class NotAuditedError(Exception):
    """The service could not be asked; the text says why."""


def known_vulnerabilities(requirements: Path, cache: Path, *service: str, patience: int = ANSWER_SECONDS) -> list[str]:
    """What is known of the versions in the file, a line each. Raises NotAuditedError."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip",
        "--progress-spinner", "off", "--format", "json", "--timeout", str(patience), "--cache-dir", str(cache),
        "--vulnerability-service", "osv", *service,
    ]  # fmt: skip
    try:
        audit = subprocess.run(command, capture_output=True, text=True, timeout=ALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        raise NotAuditedError(f"the service has not answered everything within {ALL_SECONDS} s") from late
    if not audit.stdout.strip() and (reasons := _NO_ANSWER.findall(audit.stderr)):
        raise NotAuditedError(reasons[-1].strip()[:300])
    assert audit.stdout.strip(), audit.stderr
    audited = json.loads(audit.stdout)["dependencies"]
    assert not [package for package in audited if "skip_reason" in package]
    assert len(audited) >= len(re.findall(r"^[\w.-]+==[^;\n]+$", requirements.read_text("utf-8"), re.MULTILINE))
    return [
        f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'none'}"
        for package in audited
        for found in package["vulns"]
    ]


def test_no_version_that_everybody_installs_has_a_known_vulnerability(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = known_vulnerabilities(CONSTRAINTS, tmp_path)
    except NotAuditedError as why:
        said = f"THE DEPENDENCY AUDIT DID NOT RUN: {why}"
        with capsys.disabled():
            print(f"\n{said}")  # noqa: T201 - aloud
        pytest.skip(said)
    assert not found


class _Service(BaseHTTPRequestHandler):
    """Knows one vulnerability of Pillow (https://ossf.github.io/osv-schema/), and none of anything else."""

    def do_POST(self) -> None:
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
        events = [{"introduced": "0"}, {"fixed": "99.1"}]
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        vulnerability = {"id": "TEST-1", "summary": "A picture that bites.", "affected": affected}
        answer = json.dumps({"vulns": [vulnerability]} if package["name"] == "pillow" else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()


def test_what_is_known_is_found(service: str, tmp_path: Path) -> None:
    every = known_vulnerabilities(CONSTRAINTS, tmp_path / "cache", "--osv-url", service)
    (version,) = re.findall(r"^pillow==(.+)$", CONSTRAINTS.read_text("utf-8"), re.MULTILINE)
    assert every == [f"pillow {version}: TEST-1, fixed in 99.1"]


def test_a_service_that_is_silent_or_away_is_no_good_news(tmp_path: Path) -> None:
    one = tmp_path / "one.txt"
    one.write_text("pillow==12.3.0\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(NotAuditedError, match="Read timed out"):
            known_vulnerabilities(one, tmp_path / "cache", "--osv-url", url, patience=1)
    with pytest.raises(NotAuditedError, match="Connection refused"):
        known_vulnerabilities(one, tmp_path / "cache", "--osv-url", url)
    one.write_text("pillow>=12\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="not pinned"):
        known_vulnerabilities(one, tmp_path / "cache", "--osv-url", url)
