"""Who may probe: anyone on this machine, and elsewhere the bearer of a token."""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from app.db.database import Database
from app.security.addresses import arrived_locally, is_loopback
from app.security.origins import check_origin
from app.security.tokens import bearer_of
from planner.errors import FieldProblem, FitproofError

COOKIE = "fitproof_token"
LOCAL_OWNER = "local"


class TokenNeededError(FitproofError):
    """No token, or one that opens nothing."""

    status = 401
    code = "token_needed"
    headers = {"WWW-Authenticate": 'Bearer realm="fitproof"'}  # noqa: RUF012 (read only, in the shape problems.py takes)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever got in. `owner` is the token's id, or `local`."""

    owner: str


async def admit(request: Request) -> Caller:
    """Let a caller in who may use this installation's cards.

    Raises:
        TokenNeededError: from beyond this machine without a valid token; a wrong token is refused anywhere.
        ForeignOriginError: a browser on behalf of another site.
    """
    secret, by_cookie = presented_token(request)
    check_origin(request.method, request.headers, by_cookie=by_cookie)
    if secret is None:
        if may_go_without(request):
            return Caller(LOCAL_OWNER)
        raise _needed("Probing needs a token here.", "send Authorization: Bearer TOKEN; make one with: fitproof token")
    database: Database = request.app.state.service.database
    owner = await asyncio.to_thread(bearer_of, database, secret)
    if owner is None:
        raise _needed("This token opens nothing here.", "it is misspelt or was revoked; make one with: fitproof token")
    return Caller(owner)


def presented_token(request: Request) -> tuple[str | None, bool]:
    """Return the token a request carries, and whether it came by cookie."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip(), False
    cookie = request.cookies.get(COOKIE)
    return cookie or None, cookie is not None


def may_go_without(request: Request) -> bool:
    """Whether this request needs no token: the server listens on this machine alone, and it came from here."""
    bound_to = request.app.state.settings.host
    return is_loopback(bound_to) and arrived_locally(request.scope, request.headers)


def _needed(title: str, fix: str) -> TokenNeededError:
    return TokenNeededError(title, [FieldProblem("authorization", fix)])
