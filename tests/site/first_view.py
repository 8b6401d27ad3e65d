"""What a browser fetches to show a page for the first time, in bytes as they travel."""

import re
from collections.abc import Callable

import brotli

# The body of an address as it travels in brotli, and what that says.
Fetch = Callable[[str], tuple[bytes, bytes]]
# What an HTML page, a style sheet and a module name to be fetched with them.
_NAMED = re.compile(
    r'<link[^>]+href="(?P<link>/[^"]+)"|<script[^>]+src="(?P<script>/[^"]+)"|<img[^>]+src="(?P<image>/[^"]+)"'
    r'|url\(["\']?(?P<url>/[^"\')]+)|import[^;"]*["\'](?P<module>[^"\']+\.js)["\']'
)


def first_view_bytes(fetch: Fetch, path: str = "/") -> dict[str, int]:
    """Bytes on the wire by address: the page, and everything that it and its files name."""
    seen: dict[str, int] = {}
    waiting = [path]
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        travels, said = fetch(address)
        seen[address] = len(travels)
        waiting += [next(filter(None, match.groups())) for match in _NAMED.finditer(said.decode())]
    return seen


def decoded(body: bytes, coding: str | None) -> bytes:
    """What a body in brotli, or a plain one, says."""
    return brotli.decompress(body) if coding == "br" else body
