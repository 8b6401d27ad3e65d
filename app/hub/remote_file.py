"""Fetch one file by the address that a stranger gives, for the import."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.hub.errors import MissingFileError, RefusedAddressError, RemoteFileTroubleError
from app.hub.file_address import file_address, hosts
from app.hub.turns import Turns
from app.lazy_module import lazy_module
from app.settings import Settings
from planner.units import KIB

if TYPE_CHECKING:
    import httpx
else:  # a tenth of a second, for the first address
    httpx = lazy_module("httpx")

# Four bytes for each character that the import reads (app/imports/sources/loading.py).
LARGEST_FILE_BYTES = 256 * KIB
_MOST_REDIRECTS = 3


class RemoteFiles:
    """Text files of GitHub and the hub. `transport` carries the requests; tests have one of their own."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings, self._transport = settings, transport
        self._turns = Turns()

    async def text(self, address: str, client: str = "") -> str:
        """The file at `address`, for `client`. No token is sent: what it opens is not for every visitor to read.

        Raises:
            RefusedAddressError: it is no address of a file that this server fetches.
            MissingFileError, RemoteFileTroubleError: its host has no such file, or did not give it.
        """
        url = file_address(address, self._settings.hub_endpoint)
        if self._settings.hub_offline:
            raise RemoteFileTroubleError("was not fetched: this server is set to stay offline")
        limit_seconds = self._settings.hub_timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds), self._turns.turn(client):
                return (await self._follow(httpx.URL(url))).decode("utf-8", errors="replace")
        except (TimeoutError, httpx.TimeoutException):
            raise RemoteFileTroubleError(f"did not answer within {limit_seconds:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteFileTroubleError(f"cannot be reached ({type(error).__name__})") from None

    async def _follow(self, url: httpx.URL) -> bytes:
        allowed, scheme = hosts(self._settings.hub_endpoint), url.scheme
        async with httpx.AsyncClient(
            follow_redirects=False, transport=self._transport, timeout=self._settings.hub_timeout_seconds
        ) as client:
            for _ in range(_MOST_REDIRECTS + 1):
                async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
                    if not response.has_redirect_location:
                        return await _body(response)
                    url = url.join(response.headers["location"])
                if url.scheme != scheme or url.host not in allowed:
                    raise RefusedAddressError("is redirected to a host that is not asked")
        raise RemoteFileTroubleError("is redirected in circles")


async def _body(response: httpx.Response) -> bytes:
    if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise MissingFileError("leads nowhere: there is no such file, or it is private")
    if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise MissingFileError("is private or gated: paste the file’s text")
    if response.status_code != httpx.codes.OK:
        raise RemoteFileTroubleError(f"was answered with status {response.status_code}")
    if response.headers.get("content-type", "").startswith("text/html"):
        raise RefusedAddressError("is a web page: give the address of the file itself")
    body = bytearray()
    async for part in response.aiter_bytes(16 * KIB):
        body += part
        if len(body) > LARGEST_FILE_BYTES:
            most = LARGEST_FILE_BYTES // KIB
            raise RefusedAddressError(f"holds more than {most} KiB; a training config is a page or two")
    return bytes(body)
