"""Addresses of single files that people copy from a browser, as the address of the file's own bytes.

Only the hosts named here are ever asked, over https, on their own port: what a caller writes chooses a path, never a
host. So no address of a private network can be reached, and TLS proves that a name leads to its owner.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, quote, unquote, urlsplit

from app.hub.errors import RefusedAddressError

RAW_GITHUB, RAW_GIST = "raw.githubusercontent.com", "gist.githubusercontent.com"
# The name that a Model page has in a browser, whatever endpoint stands in for it (HF_ENDPOINT).
_HUB_NAMES = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_HOSTS = "github.com, gist.github.com, their raw addresses, and huggingface.co"
_ADDRESS = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
_LONGEST = 2000
_HUB_FILE = re.compile(r"(?P<repo>/(?:datasets/|spaces/)?[^/]+/[^/]+)/(?:blob|resolve|raw)/(?P<rest>[^/]+/.+)")
_BLOB = re.compile(r"(?P<repo>/[^/]+/[^/]+)/(?:blob|raw)/(?P<rest>[^/]+/.+)")
_GIST = re.compile(r"/[^/]+/[0-9a-fA-F]+/?")


def is_address(text: str) -> bool:
    """Whether a text is nothing but one address."""
    return len(text) <= _LONGEST and _ADDRESS.fullmatch(text) is not None


def file_address(text: str, hub_endpoint: str) -> str:
    """The address of the bytes behind `text`, a raw file's address or that of its page.

    Raises:
        RefusedAddressError: it is no address of a file on one of the hosts; says which are.
    """
    parts = _split(text.strip())
    if parts.scheme.lower() != "https":
        raise RefusedAddressError("must begin with https://")
    host = (parts.hostname or "").lower()
    if parts.username is not None or parts.password is not None or parts.port not in (None, 443):
        raise RefusedAddressError("must name no user, password or port")
    find = _FINDERS.get(host)
    if find is None:
        raise RefusedAddressError(f"must be on {_HOSTS}; paste the text of other files")
    return find(_plain_path(parts.path), hub_endpoint)


def hosts(hub_endpoint: str) -> frozenset[str]:
    """Where a redirect may lead."""
    return frozenset({RAW_GITHUB, RAW_GIST, urlsplit(hub_endpoint).hostname or ""})


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # read here, where a port that is no number can be answered
    except ValueError:
        raise RefusedAddressError("cannot be read") from None
    return parts


def _plain_path(path: str) -> str:
    """The path written in one way, so that no segment means something else to the host than to the rules here."""
    plain = unquote(path)
    if any(part in {".", ".."} for part in plain.split("/")) or not plain.isprintable() or "\\" in plain:
        raise RefusedAddressError("has a path that cannot be used")
    return quote(plain, safe="/@+~()',!")


def _on_github(path: str, _: str) -> str:
    found = _BLOB.fullmatch(path)
    if found is None:
        raise RefusedAddressError("is no file: open the file on GitHub and copy that address")
    return f"https://{RAW_GITHUB}{found['repo']}/{found['rest']}"


def _gist(path: str, _: str) -> str:
    if not _GIST.fullmatch(path):
        raise RefusedAddressError("is no gist: https://gist.github.com/OWNER/ID")
    return f"https://{RAW_GIST}{path.rstrip('/')}/raw"


def _on_the_hub(path: str, endpoint: str) -> str:
    found = _HUB_FILE.fullmatch(path)
    if found is None:
        raise RefusedAddressError("is no file: open the file on the hub and copy that address")
    return f"{endpoint}{found['repo']}/resolve/{found['rest']}"


_FINDERS: Mapping[str, Callable[[str, str], str]] = {
    "github.com": _on_github,
    "www.github.com": _on_github,
    "gist.github.com": _gist,
    RAW_GITHUB: lambda path, _: f"https://{RAW_GITHUB}{path}",
    RAW_GIST: lambda path, _: f"https://{RAW_GIST}{path}",
    **dict.fromkeys(_HUB_NAMES, _on_the_hub),
}
