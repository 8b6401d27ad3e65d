"""Sign in: with a token, or with the link that a server prints for whoever started it."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.security.access import COOKIE, LOCAL_OWNER, TokenNeededError, caller_of, is_local_key
from app.security.local_access import PATH
from app.security.origins import check_origin
from app.security.tokens import create_token
from app.templating import page

router = APIRouter(include_in_schema=False)

SEE_OTHER = 303
_OLD_LINK = "This link is not of this start of the server."
_OPENS_NOTHING = "This token opens nothing here."


@router.post("/token")
async def sign_in(request: Request) -> Response:
    """Keep a token in a cookie that no script and no other site can use."""
    check_origin(request.method, request.headers, by_cookie=True)
    form = await request.form(max_files=0, max_fields=4)
    secret, onward = str(form.get("token", "")).strip(), _own_path(str(form.get("onward", "/")))
    if not secret or await caller_of(request, secret) is None:
        return page(request, "pages/token.html", 401, onward=onward, error=_OPENS_NOTHING)
    return _signed_in(request, secret, onward)


@router.get(PATH)
async def sign_in_here(request: Request, key: str = "") -> Response:
    """Sign the browser of this machine's owner in. The key ends with the server; what is made here outlives it."""
    if not is_local_key(request, key):
        return page(request, "pages/token.html", 401, onward="/", error=_OLD_LINK)
    database = request.app.state.service.database
    made = await asyncio.to_thread(create_token, database, "a browser on this machine", LOCAL_OWNER)
    return _signed_in(request, made.secret, "/")


def ask_for_token(request: Request, onward: str, error: TokenNeededError) -> HTMLResponse:
    """The page that asks for a token, and then goes on to where the visitor meant to go."""
    wrong = COOKIE in request.cookies
    return page(request, "pages/token.html", 401, onward=onward, error=error.title if wrong else "")


def _signed_in(request: Request, secret: str, onward: str) -> Response:
    response = RedirectResponse(onward, SEE_OTHER)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, secret, max_age=30 * 86_400, httponly=True, samesite="strict", secure=secure)
    return response


def _own_path(address: str) -> str:
    """A path on this site, whatever was asked for: no scheme, no host, no backslash that browsers read as a slash."""
    plain = address.startswith("/") and not address.startswith("//") and "\\" not in address
    return address if plain and address.isprintable() else "/"
