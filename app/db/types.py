"""Column types that read the same on SQLite and PostgreSQL."""

import json
from typing import Any

from sqlalchemy import Dialect, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from planner.request.validation.control_characters import storable


class _Plain(TypeDecorator[str]):
    """Text with U+FFFD for what PostgreSQL refuses: what a program says about itself must not be beyond storing."""

    impl: TypeEngine[str] | type[TypeEngine[str]] = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Write, or look for."""
        return None if value is None else storable(value)


class PlainText(_Plain):
    """Of any length."""

    cache_ok = True


class PlainString(_Plain):
    """Of at most `length` characters."""

    impl: TypeEngine[str] | type[TypeEngine[str]] = String
    cache_ok = True


class JsonText(TypeDecorator[Any]):
    """JSON kept as ASCII text.

    PostgreSQL's own JSON types refuse a NUL or a lone surrogate that a probe's log line may carry
    (https://www.postgresql.org/docs/15/datatype-json.html); escaped text stores every document as it came.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Write."""
        return None if value is None else json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 (SQLAlchemy's signature)
        """Read."""
        return None if value is None else json.loads(value)
