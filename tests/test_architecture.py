"""Reads the source: what may import what, what may be loaded at start-up, and what has no place in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WEBUI = ROOT / "webui"
SOURCES = sorted(WEBUI.rglob("*.py"))

MODEL_LIBRARIES = {"torch", "diffusers", "transformers", "accelerate"}
INSTRUMENTS = ("diffusion", "clip", "vision", "prompts")

# Lower numbers know nothing of higher ones.
LAYERS = {
    "errors": 0,
    "i18n": 1,
    "settings": 2,
    "runtime": 3,
    "diffusion": 4,
    "clip": 4,
    "vision": 4,
    "prompts": 4,
    "search": 4,
    "store": 4,
    "hooks": 5,
    "views": 5,
    "studio": 6,
    "security": 6,
    "share": 6,
    "tasks": 7,
    "extensions": 8,
    "terminal": 9,
    "pages": 9,
    "api": 9,
    "server": 10,
    "commands": 11,
    "cli": 12,
    "__main__": 13,
}
# Data that a layer below reads by design: what can be asked for, before any library is loaded.
ALLOWED_UPWARDS = {("settings", "webui.diffusion.request"), ("settings", "webui.clip.limits")}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str | None:
    """The layer's name: "webui.pages.create" -> "pages"; None for `webui` itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imports(tree: ast.AST, *, everywhere: bool) -> Iterator[str]:
    """Modules that are imported: at the top level only, or inside functions too; never those for type checking only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, everywhere=everywhere)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def roots_imported(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(parse(path), everywhere=True)}


def sources_in(*packages: str) -> list[Path]:
    return [path for path in SOURCES if package_of(module_name(path)) in packages]


def test_there_is_something_to_read() -> None:
    assert len(SOURCES) >= 40
    for package in ("pages", "api", "views", "diffusion", "clip", "runtime", "store"):
        assert len(sources_in(package)) >= 2, package


def test_every_module_has_its_layer() -> None:
    unknown = {package_of(module_name(path)) for path in SOURCES} - {None, *LAYERS}
    assert not unknown, "say in LAYERS where these belong"


def test_imports_point_down() -> None:
    known = {module_name(path) for path in SOURCES}
    upwards = []
    for path in SOURCES:
        own = package_of(module_name(path))
        if own is None:
            continue
        for name in set(imports(parse(path), everywhere=True)) & known:
            other = package_of(name)
            if other is None or other == own or (own, name) in ALLOWED_UPWARDS:
                continue
            if LAYERS[other] > LAYERS[own]:
                upwards.append(f"{module_name(path)} -> {name}")
    assert not upwards


@pytest.mark.parametrize(
    "package",
    ["pages", "api", "views", "i18n", "settings", "errors", "store", "commands", "cli", "server", "extensions"],
)
def test_pages_views_and_doors_never_import_a_model_library(package: str) -> None:
    files = sources_in(package)
    assert files
    assert not {path.name: found for path in files if (found := roots_imported(path) & MODEL_LIBRARIES)}


@pytest.mark.parametrize("package", [*INSTRUMENTS, "runtime", "store", "tasks", "studio", "extensions"])
def test_what_works_in_a_notebook_never_imports_gradio(package: str) -> None:
    files = sources_in(package)
    assert files or package == "prompts"  # comes with the issue on prompt engineering
    assert not [path.name for path in files if "gradio" in roots_imported(path)]


def test_no_module_keeps_mutable_state() -> None:
    """Module level holds constants, classes and functions: no containers that can change, no objects made at import."""
    culprits = []
    for path in SOURCES:
        for node in parse(path).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and is_mutable(node):
                culprits.append(f"{module_name(path)}:{node.lineno}: {ast.unparse(node)[:80]}")
            elif isinstance(node, ast.Global):
                culprits.append(f"{module_name(path)}:{node.lineno}: global")
    assert not culprits


MAKES_CONSTANTS = {"TypeVar", "ParamSpec", "NewType", "logging.getLogger"}
MAKES_STATE = re.compile(
    r"(.*\.)?(dict|list|set|deque|defaultdict|OrderedDict|Counter|R?Lock|Condition|Event|Semaphore|local|ContextVar|"
    r"Weak\w+|Queue|Typer|FastAPI|Blocks)"
)


def is_mutable(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether this line makes something that can change: a container that is no constant, or one made to be filled."""
    names = [ast.unparse(node.target)] if isinstance(node, ast.AnnAssign) else [ast.unparse(t) for t in node.targets]
    constant = all(re.fullmatch(r"_*[A-Z0-9][A-Z0-9_]*|__\w+__", name) for name in names)
    match node.value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return not constant
        case ast.Call(func=function):
            made_by = ast.unparse(function)
            return MAKES_STATE.fullmatch(made_by) is not None or not (constant or made_by in MAKES_CONSTANTS)
        case _:
            return False


@pytest.mark.parametrize(
    ("line", "mutable"),
    [
        ("cache = {}", True),
        ("CACHE: Final = {}", True),
        ("CACHE: Final = dict()", True),
        ("_LOCK = threading.Lock()", True),
        ("app = typer.Typer()", True),
        ("names = ['a']", True),
        ("studio = open_studio()", True),
        ("NAMES: Final = ('a',)", False),
        ("TABLE: Final = {'a': 1}", False),
        ("_log = logging.getLogger(__name__)", False),
        ("PATTERN = re.compile('a')", False),
        ("Value = int | str", False),
    ],
)
def test_mutable_state_is_recognised(line: str, mutable: bool) -> None:
    node = ast.parse(line).body[0]
    assert isinstance(node, ast.Assign | ast.AnnAssign)
    assert is_mutable(node) is mutable


def test_functions_use_no_global_statement() -> None:
    culprits = [module_name(path) for path in SOURCES for node in ast.walk(parse(path)) if isinstance(node, ast.Global)]
    assert not culprits


def test_importing_every_start_up_module_loads_no_model_library() -> None:
    """In a fresh process: all that a served page needs before its first picture, gradio included."""
    modules = ["webui.cli", "webui.server", "webui.studio", "webui.terminal"]
    modules += [module_name(path) for path in sources_in("pages", "api", "views", "store", "i18n", "tasks", "commands")]
    assert len(modules) > 15
    loaded = loaded_after("; ".join(f"import {module}" for module in modules))
    assert "gradio" in loaded
    assert not loaded & MODEL_LIBRARIES


def test_the_command_line_starts_without_gradio_too() -> None:
    loaded = loaded_after("import webui.cli, webui.terminal, webui.commands")
    assert "typer" in loaded
    assert not loaded & {*MODEL_LIBRARIES, "gradio"}


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('LOADED', *(name for name in sys.modules if '.' not in name))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("LOADED")[2].split())


def test_functions_and_files_stay_readable() -> None:
    """A file past 400 lines or a function past 60 wants another look; these are the hard walls well behind that."""
    long_files = {module_name(path): n for path in SOURCES if (n := len(path.read_text("utf-8").splitlines())) > 500}
    long_functions = {
        f"{module_name(path)}.{node.name}": length
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef) and (length := (node.end_lineno or 0) - node.lineno + 1) > 90
    }
    assert not long_files
    assert not long_functions


# Written in pieces, so that this file does not find itself. Hosts of package registries, and paths of one machine.
FORBIDDEN = re.compile(
    "|".join([r"pypi\." + "org", r"files\.python" + "hosted", r"registry\.npm" + "js", r"download\.py" + "torch",
              r"(?<![\w.])/(?:home|root|Users)" + r"/\w", r"(?<![\w.])/work" + "/"]),
    re.IGNORECASE,
)  # fmt: skip
TEXT_SUFFIXES = {".py", ".md", ".toml", ".sh", ".txt", ".json", ".js", ".css", ".html", ""}


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        return [ROOT / name for name in listing.stdout.split("\0") if name]
    unpacked = [path for path in ROOT.rglob("*") if path.is_file()]  # an archive rather than a clone
    return [path for path in unpacked if not {".venv", "outputs", "cache"} & set(path.relative_to(ROOT).parts)]


def test_no_file_names_a_registry_or_a_folder_of_one_machine() -> None:
    texts = [path for path in tracked_files() if path.suffix in TEXT_SUFFIXES and path.stat().st_size < 2**20]
    assert len(texts) >= 60
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts
        if (match := FORBIDDEN.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert not found


def test_no_print_and_no_leftovers_in_the_library() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert not [module_name(path) for path in SOURCES if marks.search(path.read_text(encoding="utf-8"))]
    assert not [path for path in SOURCES if path.name in {"utils.py", "helpers.py", "misc.py"}]
