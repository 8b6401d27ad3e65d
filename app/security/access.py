"""Who may probe: the bearer of a token, and the proven owner of this machine."""

import asyncio
import hmac
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
    """An authenticated client. `owner` is the token's id, or `local`; `token` is the one sent, which may be revoked."""

    owner: str
    token: str | None = None

    @property
    def is_operator(self) -> bool:
        """Whether this is the operator of the server."""
        return self.owner == LOCAL_OWNER

    @property
    def may_end(self) -> str | None:
        """Whose probes this caller may end; None for everybody's."""
        return None if self.is_operator else self.owner


async def admit(request: Request) -> Caller:
    """Let a caller in who may use this installation's cards.

    Raises:
        TokenNeededError: no valid token, and no proof of being on this machine; a wrong token is refused anywhere.
        ForeignOriginError: a browser on behalf of another site.
    """
    secret, by_cookie = presented_token(request)
    check_origin(request.method, request.headers, by_cookie=by_cookie)
    if secret is None:
        if may_go_without(request):
            return Caller(LOCAL_OWNER)
        raise _needed("Probing needs a token here.", "send Authorization: Bearer TOKEN; make one with: fitproof token")
    caller = await caller_of(request, secret)
    if caller is None:
        raise _needed("This token opens nothing here.", "it is misspelt or was revoked; make one with: fitproof token")
    return caller


async def caller_of(request: Request, secret: str) -> Caller | None:
    """Whom `secret` stands for: `local` for this start's own key and for what was made with it; None for nobody."""
    if is_local_key(request, secret):
        return Caller(LOCAL_OWNER)
    database: Database = request.app.state.service.database
    token_id = await asyncio.to_thread(bearer_of, database, secret)
    if token_id is None:
        return None
    return Caller(LOCAL_OWNER if token_id.startswith(LOCAL_OWNER) else token_id, token_id)


def is_local_key(request: Request, secret: str) -> bool:
    """Whether `secret` is the key that this start of the server wrote into its data folder."""
    key: str = request.app.state.local_key
    return hmac.compare_digest(secret.encode("utf-8", "surrogatepass"), key.encode())


def presented_token(request: Request) -> tuple[str | None, bool]:
    """Return the token a request carries, and whether it came by cookie."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip(), False
    cookie = request.cookies.get(COOKIE)
    return cookie or None, cookie is not None


def may_go_without(request: Request) -> bool:
    """Whether this request needs no token: the operator says that loopback is this machine alone, and so it looks."""
    settings = request.app.state.settings
    return settings.local_access and is_loopback(settings.host) and arrived_locally(request.scope, request.headers)


def _needed(title: str, fix: str) -> TokenNeededError:
    return TokenNeededError(title, [FieldProblem("authorization", fix)])
