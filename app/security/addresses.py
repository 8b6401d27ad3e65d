"""Which addresses are this very machine."""

import contextlib
import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_LOCAL_NAMES = frozenset({"localhost"})
# What proxies, tunnels and content networks add: RFC 7239, RFC 9110 7.6.3, RFC 8586, and the names in use beside them
# (nginx, HAProxy, Envoy, Traefik, Cloudflare, Fastly, Akamai, Azure, AWS, Google, Fly).
_ONE_ADDRESS = ("cf-connecting-ip", "true-client-ip", "x-envoy-external-address", "x-real-ip")
_RELAYED = {
    "cdn-loop", "client-ip", "forwarded", "forwarded-for", "proxy-connection", "true-client-ip", "via", "x-client-ip",
    "x-cloud-trace-context", "x-cluster-client-ip", "x-proxyuser-ip", "x-real-ip", "x-remote-addr", "x-remote-ip",
    "x-scheme", "x-url-scheme",
}  # fmt: skip
_RELAYED_FAMILIES = (
    "cf-", "fastly-", "fly-", "x-amz", "x-appengine-", "x-arr-", "x-azure-", "x-envoy-", "x-forwarded", "x-original-",
)  # fmt: skip


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


def is_relayed(names: Iterable[str]) -> bool:
    """Whether one of these header names says that a proxy passed the request on."""
    return any(name in _RELAYED or name.startswith(_RELAYED_FAMILIES) for name in map(str.lower, names))


def forwarded_for(headers: Mapping[str, str]) -> str | None:
    """For whom the nearest proxy says it asks; None where it names no address. The last entry is the one it added."""
    listed = headers.get("x-forwarded-for") or ""
    by_rfc = [part.strip() for part in (headers.get("forwarded") or "").rpartition(",")[2].split(";")]
    candidates = [headers.get(name) or "" for name in _ONE_ADDRESS]
    candidates += [listed.rpartition(",")[2], *(part[4:] for part in by_rfc if part.lower().startswith("for="))]
    for candidate in candidates:
        bare = host_name(candidate.strip().strip('"')) or ""
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(bare))
    return None


def arrived_locally(scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether a request looks like one made on this machine: from and to loopback, under its name, not relayed.

    The name matters: a hostile page can point its own name at 127.0.0.1 (DNS rebinding) and would then be same-origin
    to us, but it cannot make the browser send `Host: localhost`. A proxy that says nothing looks just the same, so this
    is no proof; it counts only where the operator says that there is none (FITPROOF_LOCAL_ACCESS).
    """
    server, client = scope.get("server"), scope.get("client")
    if server is None or client is None or is_relayed(headers):
        return False
    return is_loopback(server[0]) and is_loopback(client[0]) and is_loopback(host_name(headers.get("host")))
