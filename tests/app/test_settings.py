from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, unknown_variables, variable_of


def test_the_defaults_serve_on_loopback_only() -> None:
    settings = Settings.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.hub_endpoint == "https://huggingface.co"


def test_the_environment_is_read_and_options_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FITPROOF_PORT", "9000")
    monkeypatch.setenv("FITPROOF_DATA_DIR", str(tmp_path))
    assert Settings.load().port == 9000
    assert Settings.load(port=9001, host=None).port == 9001
    assert Settings.load().data_dir == tmp_path


def test_the_data_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FITPROOF_DATA_DIR", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Settings.load().data_dir == tmp_path / "fitproof"


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITPROOF_PORT", "")
    assert Settings.load().port == 8000


def test_the_hubs_own_names_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = Settings.load()
    assert settings.hub_endpoint == "http://mirror.example"
    assert settings.hub_offline
    assert settings.hub_token is not None
    assert settings.hub_token.get_secret_value() == "hf_secret"


def test_no_secret_is_ever_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("FITPROOF_DATABASE_URL", "postgresql://me:hunter2@db/fitproof")
    settings = Settings.load()
    assert "hf_secret" not in f"{settings} {settings!r} {settings.model_dump_json()}"
    assert "hunter2" not in f"{settings} {settings!r} {settings.model_dump_json()}"


def test_every_bad_variable_is_named_and_no_value_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITPROOF_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("FITPROOF_LOG_FORMAT", "xml")
    monkeypatch.setenv("HF_ENDPOINT", "ftp://hub")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    said = {problem.field: problem.message for problem in caught.value.problems}
    assert set(said) == {"FITPROOF_PORT", "FITPROOF_LOG_FORMAT", "HF_ENDPOINT"}
    assert said["FITPROOF_LOG_FORMAT"] == "must be auto, json or text"
    assert "10.0.0.1" not in str(said)


def test_a_misspelt_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITPROOF_PROT", "1")
    monkeypatch.setenv("FITPROOF_PORT", "1")
    assert unknown_variables() == ["FITPROOF_PROT"]


def test_every_setting_has_a_variable_and_a_description() -> None:
    names = [variable_of(field) for field in Settings.model_fields]
    assert len(set(names)) == len(names)
    assert all(name.startswith(("FITPROOF_", "HF_")) for name in names)
    assert all(info.description for info in Settings.model_fields.values())
