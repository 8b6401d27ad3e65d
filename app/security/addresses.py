"""Which addresses are this very machine."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_LOCAL_NAMES = frozenset({"localhost"})


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


def arrived_locally(scope: Mapping[str, Any], host_header: str | None) -> bool:
    """Whether a request came in on a loopback address and under a loopback name.

    The name matters too: a hostile page can point its own name at 127.0.0.1 (DNS rebinding) and would then be
    same-origin to us, but it cannot make the browser send `Host: localhost`.
    """
    server = scope.get("server")
    return server is not None and is_loopback(server[0]) and is_loopback(host_name(host_header))
