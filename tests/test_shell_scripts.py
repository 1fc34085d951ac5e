"""webui.sh and test.sh as a newcomer's machine sees them: real bash, a PATH with nothing but what each test puts there.

Where an installation happens it is real too (venv and pip), of a project without dependencies.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "env", "grep", "mkdir", "rm", "sleep")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "standin"
version = "1"
"""

# The smallest build backend: an editable wheel with the command `diffuscope`, which prints its arguments.
BACKEND = r"""
import pathlib, zipfile

SCRIPT = "#!/usr/bin/env bash\nprintf diffuscope\nprintf ' <%s>' \"$@\"\n"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with (pathlib.Path(__file__).parent / "installed.log").open("a") as log:
        log.write("once more\n")
    name = "standin-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        script = zipfile.ZipInfo("standin-1.data/scripts/diffuscope")
        script.external_attr = 0o100755 << 16
        wheel.writestr(script, SCRIPT)
        wheel.writestr("standin-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: standin\nVersion: 1\n")
        wheel.writestr("standin-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("standin-1.dist-info/RECORD", "")
    return name
"""

# A Python whose environments are a folder with a pip that writes down that it was asked, and takes its time.
FAKE_PYTHON = """
case "$*" in
    "-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip install"*)
        echo "once more" >> "$PROJECT/installed.log"
        sleep "${PIP_SECONDS:-0}"
        [ -z "${PIP_FAILS:-}" ] || exit 1
        printf '#!/usr/bin/env bash\\nprintf "diffuscope <serve>"\\n' > "$PROJECT/.venv/bin/diffuscope"
        chmod +x "$PROJECT/.venv/bin/diffuscope" ;;
esac
"""


class Machine:
    """A project folder, and a PATH that holds only what was put there."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "a folder with spaces" / "project"
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.project / "scripts").mkdir(parents=True)
        for name in ("webui.sh", "test.sh", "scripts/venv.sh", "scripts/browser.sh"):
            shutil.copy(ROOT / name, self.project / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        (self.project / "pyproject.toml").write_text(PYPROJECT)
        (self.project / "backend.py").write_text(BACKEND)
        (self.project / "constraints.txt").write_text("nothing==1\n")
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(folder),
            "PROJECT": str(self.project),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
        }

    def put(self, name: str, script: str, folder: Path | None = None) -> None:
        """Add a command, written in bash."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{textwrap.dedent(script)}\n")
        path.chmod(0o755)

    def put_real_python(self) -> None:
        self.put("python3", f'exec "{sys.executable}" "$@"')

    def put_fake_python(self) -> None:
        self.put("python3", FAKE_PYTHON)

    def put_python_that(self, name: str, version: str, can_make_venvs: bool) -> None:
        self.put(
            name,
            f"""
            case "$*" in
                --version) echo "Python {version}" ;;
                *version_info*) exit {int(tuple(map(int, version.split("."))) < (3, 11))} ;;
                *ensurepip*) exit {int(not can_make_venvs)} ;;
            esac
            """,
        )

    def run(
        self, script: str, *arguments: str, user: int | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.project / script), *arguments],
            env={**self.environment, **environment},
            cwd="/",
            user=user,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def installations(self) -> int:
        log = self.project / "installed.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_without_python_it_says_what_to_install(machine: Machine) -> None:
    assert_one_line(machine.run("webui.sh"), "Python 3.11 or newer")


def test_a_python_that_is_too_old_is_named(machine: Machine) -> None:
    machine.put_python_that("python3", "3.9.18", can_make_venvs=True)
    assert_one_line(machine.run("webui.sh"), "Python 3.11 or newer", "Python 3.9.18")
    assert not (machine.project / ".venv").exists()


def test_a_python_without_venv_is_told_which_package_is_missing(machine: Machine) -> None:
    machine.put_python_that("python3.12", "3.12.1", can_make_venvs=False)
    assert_one_line(machine.run("webui.sh"), "python3-venv", "python3.12")


def test_the_first_start_installs_and_the_second_does_nothing(machine: Machine) -> None:
    machine.put("python3.11", "echo 'version 3.11 is not installed' >&2; exit 127")
    machine.put_python_that("python3.12", "3.12.1", can_make_venvs=False)
    machine.put_real_python()
    first = machine.run("webui.sh", "--port", "7 8")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "diffuscope <serve> <--port> <7 8>"
    assert machine.installations() == 1

    # No Python to be found, no pip and nothing to build with: a second start needs none of them.
    environment = machine.project / ".venv"
    (machine.bin / "python3").unlink()
    (machine.project / "backend.py").unlink()
    (environment / "bin" / "python").unlink()
    machine.put("python", "echo called >&2; exit 1", environment / "bin")
    before = {path: path.lstat().st_mtime_ns for path in environment.rglob("*")}
    second = machine.run("webui.sh")
    assert (second.returncode, second.stdout, second.stderr) == (0, "diffuscope <serve>", "")
    assert {path: path.lstat().st_mtime_ns for path in environment.rglob("*")} == before


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(machine: Machine, name: str) -> None:
    machine.put_fake_python()
    machine.run("webui.sh")
    with (machine.project / name).open("a") as file:
        file.write("# changed\n")
    assert machine.run("webui.sh").returncode == 0
    assert machine.installations() == 2
    assert machine.run("webui.sh").stderr == ""
    assert machine.installations() == 2


def test_a_checkout_that_was_moved_is_installed_again(machine: Machine) -> None:
    machine.put_fake_python()
    machine.run("webui.sh")
    machine.project = machine.project.rename(machine.project.with_name("moved"))
    assert machine.run("webui.sh", PROJECT=str(machine.project)).returncode == 0
    assert machine.installations() == 2


def test_an_installation_stopped_by_ctrl_c_is_made_anew(machine: Machine) -> None:
    machine.put_fake_python()
    process = subprocess.Popen(
        [str(machine.project / "webui.sh")],
        env={**machine.environment, "PIP_SECONDS": "600"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not machine.installations():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    half_made = machine.project / ".venv" / "half-made"
    half_made.touch()

    result = machine.run("webui.sh")
    assert (result.returncode, result.stdout) == (0, "diffuscope <serve>"), result.stderr
    assert not half_made.exists()


def test_an_environment_without_pip_is_made_anew(machine: Machine) -> None:
    machine.put_fake_python()
    machine.put("python", "exit 1", machine.project / ".venv" / "bin")
    assert machine.run("webui.sh").stdout == "diffuscope <serve>"


def test_a_failed_installation_says_so_and_the_next_start_tries_again(machine: Machine) -> None:
    machine.put_fake_python()
    for count in (1, 2):
        result = machine.run("webui.sh", PIP_FAILS="yes")
        assert result.returncode != 0
        assert "network" in result.stderr.splitlines()[-1]
        assert machine.installations() == count
    assert machine.run("webui.sh").stdout == "diffuscope <serve>"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_without_write_permission_it_says_where(machine: Machine, tmp_path: Path) -> None:
    machine.put_fake_python()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and len(folder.parts) > 2:
            folder.chmod(0o755)
    assert_one_line(machine.run("webui.sh", user=65534), "Cannot write to", str(machine.project))


def install_tools(machine: Machine, **scripts: str) -> Path:
    """An environment that counts as installed, whose tools say what they were called with."""
    tools = machine.project / ".venv" / "bin"
    python = """
        case "$*" in
            "-m pytest"*) echo "browser $DIFFUSCOPE_CHROMIUM"; echo "pytest ${*:3}"; exit "${PYTEST_STATUS:-0}" ;;
        esac
    """
    for name in ("python", "ruff", "mypy", "playwright"):
        default = python if name == "python" else f'echo "{name} $*"'
        machine.put(name, scripts.get(name, default), tools)
    machine.put("id", "echo 1000")
    stamp = 'root="$1"; . "$root/scripts/venv.sh"; fingerprint > "$root/.venv/.installed-test"'
    subprocess.run(["bash", "-c", stamp, "bash", machine.project], check=True)
    return tools


def test_arguments_run_only_pytest(machine: Machine) -> None:
    install_tools(machine)
    machine.put("chromium", "true")
    result = machine.run("test.sh", "tests/x.py", "-k", "a b")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"browser {machine.bin / 'chromium'}", "pytest tests/x.py -k a b"]


def test_everything_runs_and_pytest_has_the_last_word(machine: Machine) -> None:
    install_tools(machine, ruff='echo "ruff $*"; [ "$1" != check ]')
    machine.put("chromium", "true")
    result = machine.run("test.sh")
    lines = result.stdout.splitlines()
    assert result.returncode == 1
    assert [line.split()[0] for line in lines] == ["ruff", "ruff", "mypy", "Lint", "browser", "pytest"]


@pytest.mark.parametrize(("status", "expected"), [("0", 0), ("1", 1)])
def test_the_exit_status_is_that_of_the_tests(machine: Machine, status: str, expected: int) -> None:
    install_tools(machine)
    machine.put("chromium", "true")
    assert machine.run("test.sh", PYTEST_STATUS=status).returncode == expected


def test_no_browser_is_a_failure(machine: Machine) -> None:
    install_tools(machine, playwright="exit 1")
    machine.put("chromium-browser", "echo 'install me with another package manager' >&2; exit 1")
    result = machine.run("test.sh")
    assert result.returncode != 0
    assert "pytest" not in result.stdout
    assert "need Chromium" in result.stderr.splitlines()[-1]


def test_playwright_is_asked_for_a_browser_when_there_is_none(machine: Machine, tmp_path: Path) -> None:
    downloaded = tmp_path / "downloaded" / "chrome"
    tools = install_tools(machine, playwright=f'[ "$*" = "install chromium" ] && chmod +x "{downloaded}"')
    machine.put("chrome", "true", downloaded.parent)
    downloaded.chmod(0o644)
    machine.put(
        "python", f'[ "$*" = - ] && echo "{downloaded}"; [ "$1" = -m ] && echo "browser $DIFFUSCOPE_CHROMIUM"', tools
    )
    result = machine.run("test.sh", "x")
    assert result.stdout == f"browser {downloaded}\n", result.stderr


def test_root_gets_the_browser_and_the_fonts_from_the_distribution(machine: Machine, tmp_path: Path) -> None:
    install_tools(machine)
    machine.put("id", "echo 0")
    machine.put("dpkg-query", '[ "${!#}" = fonts-thai-tlwg ] && echo installed')
    machine.put("apt-get", f'echo "$*" >> "{tmp_path}/apt.log"; [ "$1" = update ] || chmod +x "{machine.bin}/chromium"')
    machine.put("chromium", "true")
    (machine.bin / "chromium").chmod(0o644)
    result = machine.run("test.sh", "x")
    assert result.returncode == 0, result.stderr
    update, install = (tmp_path / "apt.log").read_text().splitlines()
    assert update.startswith("update")
    assert install.endswith("--no-install-recommends fonts-noto-color-emoji chromium")


def test_a_browser_named_by_the_environment_goes_first(machine: Machine, tmp_path: Path) -> None:
    install_tools(machine)
    machine.put("chromium", "true")
    machine.put("my browser", "true", tmp_path)
    result = machine.run("test.sh", "x", DIFFUSCOPE_CHROMIUM=str(tmp_path / "my browser"))
    assert result.stdout.splitlines()[0] == f"browser {tmp_path / 'my browser'}"


def test_scripts_parse_and_may_be_run() -> None:
    found = [ROOT / "webui.sh", ROOT / "test.sh", ROOT / ".ci" / "run", *sorted((ROOT / "scripts").glob("*.sh"))]
    assert len(found) >= 5
    for script in found:
        subprocess.run(["bash", "-n", script], check=True)
    for script in found[:3]:
        assert os.access(script, os.X_OK), script
