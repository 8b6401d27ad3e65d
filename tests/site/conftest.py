import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.main import create_app
from app.settings import Settings
from tests.app.serving import served
from tests.service.forking import forked_template

# Debian's Chromium where it is installed; otherwise the one that `playwright install chromium` brought.
CHROMIUM = os.environ.get("FITPROOF_TEST_CHROMIUM") or shutil.which("chromium")
# A page that is there at once on a quiet machine takes seconds on one whose every core is busy.
expect.set_options(timeout=30_000)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The real application behind a real server, away from the hub; no workers, no rate limit in the way."""
    folder: Path = tmp_path_factory.mktemp("site")
    settings = Settings(data_dir=folder, hub_offline=True, hub_token=None, local_access=True)
    with served(create_app(settings, [], forked_template)) as client:
        yield client


@pytest.fixture(scope="session")
def address(site: httpx.Client) -> str:
    return str(site.base_url).rstrip("/")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, address: str) -> Iterator[BrowserContext]:
    """A fresh visitor on a desk."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which any error in the console fails the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield page
    # A status of 404 or 422 is an answer, and Chromium writes it to the console.
    assert not [error for error in errors if "status of 4" not in error]
