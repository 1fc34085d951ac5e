from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from webui import settings as settings_module
from webui.diffusion.request import GenerateLimits
from webui.errors import UserError
from webui.i18n import LANGUAGES, load_messages
from webui.settings import Settings, load_settings


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFUSCOPE_DATA_DIR", str(tmp_path))
    return tmp_path


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(config: Path | None = None, **flags: object) -> UserError:
    with pytest.raises(UserError) as caught:
        load_settings(config, **flags)
    for language in LANGUAGES:
        assert load_messages().error(language, caught.value).count("\n") == 0
    return caught.value


def test_flags_beat_the_environment_and_the_environment_beats_the_file(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(data_dir, 'port = 1\nhost = "localhost"\nmax_upload_mb = 7')
    assert load_settings().port == 1
    monkeypatch.setenv("DIFFUSCOPE_PORT", "2")
    monkeypatch.setenv("DIFFUSCOPE_HOST", "127.0.0.2")
    assert (load_settings().port, load_settings().host) == (2, "127.0.0.2")
    settings = load_settings(port=3, host=None)
    assert (settings.port, settings.host, settings.max_upload_mb) == (3, "127.0.0.2", 7)


def test_settings_alone_read_neither_environment_nor_file(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(data_dir, "port = 1")
    monkeypatch.setenv("DIFFUSCOPE_PORT", "2")
    assert Settings(data_dir=data_dir).port == 7860


def test_tables_of_file_and_environment_are_merged_key_by_key(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(data_dir, "[limits]\nmax_steps = 40\nmax_side = 512")
    monkeypatch.setenv("DIFFUSCOPE_LIMITS__MAX_STEPS", "50")
    limits = load_settings().limits
    assert (limits.max_steps, limits.max_side) == (50, 512)
    assert limits.max_batch_size == GenerateLimits().max_batch_size


def test_folders_hang_below_the_data_folder_unless_named(data_dir: Path) -> None:
    settings = load_settings()
    assert (settings.models_dir, settings.outputs_dir) == (data_dir / "models", data_dir / "outputs")
    assert load_settings(models_dir="elsewhere").models_dir == Path.cwd() / "elsewhere"


def test_relative_folders_in_a_file_start_where_the_file_lies(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "conf").mkdir()
    config = write_config(tmp_path / "conf", 'outputs_dir = "../pictures"')
    assert load_settings(config).outputs_dir.resolve() == tmp_path / "pictures"


def test_a_checkout_keeps_everything_beside_its_scripts() -> None:
    checkout = settings_module.checkout_dir()
    assert checkout is not None
    assert (checkout / "webui.sh").is_file()
    assert settings_module.default_data_dir() == checkout


def test_an_installed_package_uses_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings_module, "__file__", str(tmp_path / "site-packages" / "webui" / "settings.py"))
    assert settings_module.checkout_dir() is None
    assert settings_module.default_data_dir().name == "diffuscope"
    assert settings_module.bundled_models_dir() == tmp_path / "site-packages" / "webui" / "bundled"


@pytest.mark.parametrize(
    ("host", "share", "remote"),
    [
        ("127.0.0.1", False, False),
        ("127.8.8.8", False, False),
        ("::1", False, False),
        ("localhost", False, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("192.168.1.5", False, True),
        ("localhost.example.com", False, True),
        ("127.0.0.1", True, True),
    ],
)
def test_remote_means_that_another_machine_can_reach_the_page(
    tmp_path: Path, host: str, share: bool, remote: bool
) -> None:
    assert Settings(data_dir=tmp_path, host=host, share=share).remote is remote


def test_remote_mode_starts_from_lower_limits_and_what_is_set_by_name_holds(data_dir: Path) -> None:
    local, remote = load_settings(), load_settings(host="0.0.0.0")
    assert remote.limits.max_pixels < local.limits.max_pixels
    assert remote.limits.max_batch_count < local.limits.max_batch_count
    assert remote.max_upload_mb < local.max_upload_mb
    assert remote.max_waiting_jobs_per_user < local.max_waiting_jobs_per_user
    write_config(data_dir, "max_upload_mb = 99\n[limits]\nmax_pixels = 4000000")
    named = load_settings(share=True)
    assert (named.max_upload_mb, named.limits.max_pixels) == (99, 4000000)
    assert named.limits.max_batch_count == remote.limits.max_batch_count


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("prot = 7861", "prot"),
        ('port = "seven"', "port"),
        ("port = 70000", "port"),
        ('language = "de"', "language"),
        ("limits = 3", "limits"),
        ("[limits]\nmax_stepz = 3", "limits.max_stepz"),
        ('[limits]\nmax_steps = "many"', "limits.max_steps"),
        ("data_dir = 3", "data_dir"),
        ("memory_budget_gb = -1", "memory_budget_gb"),
    ],
)
def test_a_bad_value_is_named_with_its_file(tmp_path: Path, text: str, key: str) -> None:
    config = write_config(tmp_path, text)
    error = refusal(config)
    assert (error.values["key"], error.values["source"]) == (key, str(config))


def test_a_bad_value_is_named_with_its_flag_or_variable(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(data_dir, "port = 1")
    monkeypatch.setenv("DIFFUSCOPE_PORT", "x")
    assert refusal().values["source"] == "DIFFUSCOPE_PORT"
    assert refusal(port=-5).values["source"] == "--port"
    monkeypatch.setenv("DIFFUSCOPE_PORT", "1")
    monkeypatch.setenv("DIFFUSCOPE_LIMITS__MAX_STEPS", "x")
    assert refusal().values["source"] == "DIFFUSCOPE_LIMITS__MAX_STEPS"
    monkeypatch.setenv("DIFFUSCOPE_LIMITS", "{")
    assert refusal().key == "error.bad_environment"


def test_a_named_file_must_exist_and_be_toml(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml").key == "error.config_unreadable"
    assert refusal(tmp_path).key == "error.config_unreadable"
    assert refusal(write_config(tmp_path, "port = ")).key == "error.config_not_toml"
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    assert refusal(tmp_path / "config.toml").key == "error.config_not_toml"


@given(st.text())
def test_any_text_in_the_file_gives_settings_or_one_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_settings(path)
    except UserError as error:
        problem = error
    else:
        return
    assert str(path) in problem.values.values()
