"""Rate limits: a token bucket per client, in memory, a bounded number of clients remembered."""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import Problem
from app.security.addresses import forwarded_for, is_loopback, is_relayed
from planner.errors import FieldProblem

MOST_CLIENTS = 10_000
# As many at full speed are more than one process answers.
CLIENTS_BEHIND_A_PROXY = 20
# Orchestrators and scrapers ask these steadily, and must not be turned away.
_EXEMPT_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class Buckets:
    """Each client may do `per_minute` things a minute, and as many at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._size = float(per_minute)
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, client: str) -> float:
        """Take one; 0 if it was granted, else how long until the next one is."""
        now = self._clock()
        level, at = self._levels.pop(client, (self._size, now))
        level = min(self._size, level + (now - at) * self._per_second)
        granted = level >= 1
        self._levels[client] = (level - 1 if granted else level, now)
        if len(self._levels) > MOST_CLIENTS:
            self._levels.popitem(last=False)
        return 0.0 if granted else (1 - level) / self._per_second


class RateLimit:
    """Turns away a client that asks too much. Plain ASGI: it stands before every request.

    Who comes through a proxy on this machine shares one large bucket, and has one of its own where the proxy says for
    whom it asks. A proxy that passes on what the client itself wrote there cannot make more of the large one.
    `spares_loopback`: the operator says that loopback is this machine alone.
    """

    def __init__(self, app: ASGIApp, per_minute: int, *, spares_loopback: bool = False) -> None:
        self.app = app
        self.per_minute = per_minute
        self.spares_loopback = spares_loopback
        self.buckets = Buckets(per_minute)
        self.through_loopback = Buckets(CLIENTS_BEHIND_A_PROXY * per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        limited = scope["type"] == "http" and scope["path"] not in _EXEMPT_PATHS
        wait_seconds = self._wait_seconds(scope) if limited else 0.0
        if wait_seconds:
            await too_fast(self.per_minute, wait_seconds).response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _wait_seconds(self, scope: Scope) -> float:
        address = scope["client"][0] if scope.get("client") else None
        if address is not None and not is_loopback(address):
            return self.buckets.wait_seconds(client_of(address))
        headers = Headers(scope=scope)
        if self.spares_loopback and not is_relayed(headers.keys()):
            return 0.0
        asked_for = forwarded_for(headers)
        shared = self.through_loopback.wait_seconds("loopback")
        return shared or (self.buckets.wait_seconds(client_of(asked_for)) if asked_for else 0.0)


def client_of(address: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 /64 network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed)


def too_fast(per_minute: int, wait_seconds: float) -> Problem:
    """Write the refusal."""
    seconds = int(wait_seconds) + 1
    fix = f"at most {per_minute} a minute; wait {seconds} s"
    headers = {"Retry-After": str(seconds)}
    return Problem(429, "too_many_requests", "Too many requests.", [FieldProblem("request", fix)], headers)
