"""Bearer tokens: shown once, kept as a hash, compared in constant time."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from app.db.database import Database
from app.db.models import Token
from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.request.validation.control_characters import checked_name

_PREFIX = "fitproof"
# Compared with when no token has the id, so that an unknown id takes as long as a wrong secret.
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


class UnknownTokenError(FitproofError):
    """No token has this id."""

    status = 404
    code = "unknown_token"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made. `secret` is what the bearer sends; it cannot be shown again."""

    id: str
    secret: str


def create_token(database: Database, name: str, prefix: str = "") -> NewToken:
    """Make a token of 256 random bits; only its SHA-256 is stored. `prefix` begins its id.

    Raises:
        InvalidRequestError: the name holds control characters.

    A fast hash is enough for a secret that cannot be guessed (OWASP Password Storage Cheat Sheet speaks of passwords).
    """
    try:
        checked_name(name)
    except ValueError as error:
        raise InvalidRequestError("This is no name for a token.", [FieldProblem("name", str(error))]) from None
    token_id = prefix + secrets.token_hex(4)
    secret = f"{_PREFIX}_{token_id}_{secrets.token_urlsafe(32)}"
    with database.writing() as session:
        session.add(Token(id=token_id, name=name, sha256=_hash(secret), created_at=time.time()))
    return NewToken(token_id, secret)


def revoke_token(database: Database, token_id: str) -> None:
    """Refuse a token from now on.

    Raises:
        UnknownTokenError: there is none with this id.
    """
    with database.writing() as session:
        token = session.get(Token, token_id)
        if token is None:
            problem = FieldProblem("id", "list the tokens with fitproof token --list")
            raise UnknownTokenError(f"There is no token {token_id!r}.", [problem])
        token.revoked_at = token.revoked_at or time.time()


def list_tokens(database: Database) -> list[Token]:
    """Every token, oldest first, without its secret."""
    with database.reading() as session:
        return list(session.execute(select(Token).order_by(Token.created_at)).scalars())


def bearer_of(database: Database, secret: str) -> str | None:
    """Return the id of the token that `secret` is, None where it is none or was revoked."""
    parts = secret.split("_", 2)
    token = None
    if len(parts) == 3 and parts[0] == _PREFIX and parts[1].isalnum() and len(parts[1]) <= 16:
        with database.reading() as session:
            token = session.get(Token, parts[1])
    known = token.sha256 if token is not None else _NOBODY
    matches = hmac.compare_digest(_hash(secret), known)
    return token.id if matches and token is not None and token.revoked_at is None else None


def revoked_among(database: Database, token_ids: Collection[str]) -> set[str]:
    """Pick the tokens that open nothing any more."""
    query = select(Token.id).where(Token.id.in_(token_ids), Token.revoked_at.is_(None))
    with database.reading() as session:
        return set(token_ids) - set(session.execute(query).scalars())


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
