"""Whether a browser sent this on behalf of our own page. Other programs send none of these headers."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from planner.errors import FieldProblem, FitproofError

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class ForeignOriginError(FitproofError):
    """Another site's page tried to act here."""

    status = 403
    code = "foreign_origin"


def check_origin(method: str, headers: Mapping[str, str], *, by_cookie: bool) -> None:
    """Refuse what another site's page sends (OWASP CSRF Prevention Cheat Sheet: Fetch Metadata, Origin).

    A browser that signs in by cookie must say where the request comes from; a bearer token cannot be sent by
    another site's page, and a program without a browser has no origin.

    Raises:
        ForeignOriginError: the request changes something and comes from elsewhere.
    """
    if method in _SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = (site is not None and site not in {"same-origin", "none"}) or (
        origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    )
    if foreign or (by_cookie and site is None and origin is None):
        problem = FieldProblem("origin", f"send it from this site's own pages, or with a token; got {origin or 'none'}")
        raise ForeignOriginError("Another site may not do this.", [problem])
