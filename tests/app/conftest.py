from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.hub_server import FakeHub, running_hub
from tests.app.serving import served
from tests.service.forking import forked_template


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the developer's settings nor the public hub may reach a test."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "FITPROOF_PORT", "FITPROOF_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FITPROOF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def hub() -> Iterator[FakeHub]:
    """One hub for the whole session; tests publish under names of their own."""
    with running_hub() as hub:
        yield hub


@pytest.fixture(scope="session")
def settings(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        data_dir=tmp_path_factory.mktemp("data"), hub_endpoint=hub.endpoint, hub_offline=False, hub_token=None
    )


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the real application behind a real server."""
    with served(create_app(settings, start_template=forked_template)) as client:
        yield client
