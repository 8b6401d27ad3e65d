"""Fetch one config.json, with every limit a server needs when a stranger names the file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app import strictjson
from app.hub.cache import CachedConfig, ConfigCache
from app.hub.errors import (
    ConfigTooLargeError,
    GatedModelError,
    HubError,
    HubTimeoutError,
    HubTroubleError,
    HubUnreachableError,
    MalformedConfigError,
    ModelNotOnHubError,
)
from app.hub.names import RepoName
from app.hub.turns import Turns
from app.lazy_module import lazy_module
from app.settings import Settings
from app.strictjson import InvalidJsonError

if TYPE_CHECKING:
    import httpx
else:  # a tenth of a second, rich and pygments with it, for the first model that the catalogue lacks
    httpx = lazy_module("httpx")

# The hub redirects once to its resolve cache and once after a rename.
_MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class _Answer:
    """A final answer: 304 has no body."""

    status: int
    headers: httpx.Headers
    body: bytes = b""


class Hub:
    """The hub's configs, through a disk cache. Nothing is opened before the first fetch."""

    def __init__(self, settings: Settings, cache: ConfigCache | None = None) -> None:
        self._settings = settings
        self._cache = cache or ConfigCache(settings.data_dir / "hub")
        self._client: httpx.AsyncClient | None = None
        self._turns = Turns()

    async def config(self, repo: RepoName, client: str = "") -> dict[str, Any]:
        """Return the config.json of `repo`, from the cache while it is fresh.

        `client` is who asks: one that asks much waits for its own requests, not others for them. A stale copy still
        answers when the hub cannot: a config hardly ever changes.

        Raises:
            HubError: one class per reason (app/hub/errors.py).
        """
        url = self._settings.hub_endpoint + repo.config_path
        kept = self._cache.get(url)
        if kept and (self._settings.hub_offline or kept.is_fresh(self._settings.hub_cache_seconds)):
            return dict(kept.config)
        try:
            config = await self._fetch(repo, url, kept, client)
        except (HubUnreachableError, HubTimeoutError, HubTroubleError):
            if kept is None:
                raise
            config = kept.config
        return dict(config)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _fetch(self, repo: RepoName, url: str, kept: CachedConfig | None, client: str) -> Mapping[str, Any]:
        if self._settings.hub_offline:
            raise HubUnreachableError(f"{repo} is not cached, and this server is set to stay offline.", _CATALOGUE)
        limit_seconds = self._settings.hub_timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds), self._turns.turn(client):
                answer = await self._follow(repo, httpx.URL(url), kept.etag if kept else None)
        except (TimeoutError, httpx.TimeoutException):
            title = f"The hub did not answer within {limit_seconds:g} seconds."
            raise HubTimeoutError(title, "try again later") from None
        except httpx.InvalidURL:  # httpx reads the Location of a redirect even when told not to follow it
            raise _astray(repo) from None
        except httpx.HTTPError as error:
            title = f"The hub at {self._settings.hub_name} cannot be reached ({type(error).__name__})."
            raise HubUnreachableError(title, _CATALOGUE) from None
        unchanged = answer.status == httpx.codes.NOT_MODIFIED and kept is not None
        config = kept.config if unchanged and kept else _decoded(repo, answer.body)
        self._cache.put(url, config, answer.headers.get("etag") or (kept.etag if kept else None))
        return config

    async def _follow(self, repo: RepoName, url: httpx.URL, etag: str | None) -> _Answer:
        origin = _origin(url)
        for _ in range(_MOST_REDIRECTS + 1):
            headers = {"accept": "application/json", "accept-encoding": "identity"}
            if etag:
                headers["if-none-match"] = etag
            if self._settings.hub_token and _origin(url) == origin:
                headers["authorization"] = f"Bearer {self._settings.hub_token.get_secret_value()}"
            answer = await self._get(repo, url, headers)
            location = answer.headers.get("location")
            if not (httpx.codes.is_redirect(answer.status) and location):
                self._check(repo, answer)
                return answer
            url = safe_redirect(repo, url, location)
        raise HubTroubleError(f"The hub redirects {repo} in circles.", "try again later")

    async def _get(self, repo: RepoName, url: httpx.URL, headers: dict[str, str]) -> _Answer:
        """One request. Only a 200 has its body read, and only up to the limit."""
        async with self._opened().stream("GET", url, headers=headers) as response:
            body = bytearray()
            if response.status_code == httpx.codes.OK:
                async for part in response.aiter_bytes(64 * 1024):
                    body += part
                    if len(body) > self._settings.hub_max_config_bytes:
                        title = f"config.json of {repo} is larger than {self._settings.hub_max_config_bytes} bytes."
                        raise ConfigTooLargeError(title, "raise FITPROOF_HUB_MAX_CONFIG_BYTES")
            return _Answer(response.status_code, response.headers, bytes(body))

    def _check(self, repo: RepoName, answer: _Answer) -> None:
        """Raise the error that `answer` stands for. X-Error-Code: huggingface_hub/utils/_http.py."""
        code = answer.headers.get("x-error-code")
        if answer.status in {httpx.codes.OK, httpx.codes.NOT_MODIFIED}:
            return
        if answer.status == httpx.codes.NOT_FOUND or code == "RepoNotFound":
            raise _missing(repo, code)
        if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            token_sent = self._settings.hub_token is not None
            raise GatedModelError(repo, self._settings.hub_name, token_sent=token_sent)
        raise HubTroubleError(f"The hub answered {answer.status} for {repo}.", "try again later")

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(follow_redirects=False, timeout=self._settings.hub_timeout_seconds)
        return self._client


_CATALOGUE = "choose a model of the catalogue"


def _missing(repo: RepoName, code: str | None) -> HubError:
    what = {"EntryNotFound": f"{repo} on the hub holds no config.json", "RevisionNotFound": f"{repo}: no such revision"}
    title = what.get(code or "", f"Neither the catalogue nor the hub knows {str(repo)!r}")
    return ModelNotOnHubError(f"{title}.", "check the spelling")


def safe_redirect(repo: RepoName, url: httpx.URL, location: str) -> httpx.URL:
    """Where `location` leads, if that is no less safe than where it was said.

    Raises:
        HubTroubleError: to plain http, or to something that is not the web.
    """
    target = url.join(location)
    if target.scheme not in {"https", url.scheme} or target.scheme not in {"http", "https"} or not target.host:
        raise _astray(repo)
    return target


def _astray(repo: RepoName) -> HubTroubleError:
    return HubTroubleError(f"The hub redirects {repo} to an address that is not safe to follow.", "try again later")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _decoded(repo: RepoName, body: bytes) -> dict[str, Any]:
    """Configs are written by Python, whose `Infinity` is no JSON: such a value is dropped to null."""
    try:
        config = json.loads(body.decode("utf-8-sig"), parse_constant=lambda _: None)
        strictjson.check_values(config)
    except (ValueError, RecursionError, InvalidJsonError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        config = None
    if not isinstance(config, dict):
        raise MalformedConfigError(f"What {repo} calls config.json is not a JSON object.", "tell its publisher")
    return config
