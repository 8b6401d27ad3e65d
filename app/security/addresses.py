"""Which addresses are this very machine."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_LOCAL_NAMES = frozenset({"localhost"})
# What a proxy adds (RFC 7239, RFC 9110 7.6.3, and the names in use before them).
_RELAYED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


@lru_cache(maxsize=1024)
def is_loopback(host: str | None) -> bool:
    """Whether `host`, a name or an address, can only be this machine. Unknown names are not."""
    if host is None:
        return False
    bare = host.strip("[]").lower()
    if bare in _LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def host_name(header: str | None) -> str | None:
    """The name in a Host header, without its port."""
    if not header:
        return None
    if header.startswith("["):
        return header.partition("]")[0].lstrip("[")
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def arrived_locally(scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether a request was made on this machine: from and to a loopback address, under a loopback name, not relayed.

    The name matters: a hostile page can point its own name at 127.0.0.1 (DNS rebinding) and would then be same-origin
    to us, but it cannot make the browser send `Host: localhost`. A proxy on this machine is no reason to trust those
    beyond it: it connects from loopback, and some send the address they connect to as the name.
    """
    server, client = scope.get("server"), scope.get("client")
    if server is None or client is None or any(name in headers for name in _RELAYED):
        return False
    return is_loopback(server[0]) and is_loopback(client[0]) and is_loopback(host_name(headers.get("host")))
