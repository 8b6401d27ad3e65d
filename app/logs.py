"""Structured logs: one line per event, JSON for machines or text for people, with the request's id in each."""

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

_REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def current_request_id() -> str:
    """The id of the request being answered, or an empty string outside one."""
    return _REQUEST_ID.get()


def set_request_id(request_id: str) -> None:
    """Name the request being answered. Each request runs in its own context, so nothing needs to be reset."""
    _REQUEST_ID.set(request_id)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if request_id := current_request_id():
        facts["request_id"] = request_id
    return facts


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage()} | _facts(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`20:31:07 INFO access GET /plan status=200 ms=3.1`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        facts = " ".join(f"{name}={value}" for name, value in _facts(record).items())
        return f"{super().format(record)} {facts}".rstrip()


def configure(log_format: str = "auto", level: str = "info") -> None:
    """Send every log line of this process to stderr. Called once, by `fitproof serve`."""
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Redirect addresses may carry signatures, and the wire-level loggers show headers.
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
