"""Every table. Times are seconds since the epoch on the database's or the writer's clock; sizes are bytes."""

from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.db.types import JsonText, PlainString, PlainText


class Base(DeclarativeBase):
    """The metadata that the migrations are checked against."""

    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads a plain dict here)
        dict[str, Any]: JsonText(),
        float: Double(),
        str: PlainText(),
    }


class Probe(Base):
    """One question put to an instrument, its state, and what the current attempt has reported so far."""

    __tablename__ = "probe"

    id: Mapped[str] = mapped_column(PlainString(32), primary_key=True)
    state: Mapped[str] = mapped_column(PlainString(16))
    instrument: Mapped[str] = mapped_column(PlainString(16))
    request: Mapped[dict[str, Any]]
    config: Mapped[dict[str, Any] | None]
    fingerprint: Mapped[str] = mapped_column(PlainString(64))
    weights: Mapped[str]
    memory_limit_bytes: Mapped[int | None] = mapped_column(BigInteger)
    card: Mapped[str | None]
    card_bytes: Mapped[int | None] = mapped_column(BigInteger)
    params: Mapped[int | None] = mapped_column(BigInteger)
    deadline_seconds: Mapped[int]
    prediction: Mapped[dict[str, Any] | None]

    owner: Mapped[str]
    idempotency_key: Mapped[str | None]
    body_sha256: Mapped[str] = mapped_column(PlainString(64))

    attempt: Mapped[int] = mapped_column(default=1)
    # How many attempts ended with their server.
    server_ends: Mapped[int] = mapped_column(default=0, server_default="0")
    engine: Mapped[str | None]
    worker: Mapped[str | None]
    seen: Mapped[bool] = mapped_column(default=False)
    log_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    lines_kept: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    faults: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[float] = mapped_column(default=0.0)
    forgotten: Mapped[bool] = mapped_column(default=False)

    measurement: Mapped[dict[str, Any] | None]
    outcome: Mapped[str | None] = mapped_column(PlainString(16))
    prediction_error: Mapped[float | None]
    error: Mapped[str | None]
    last_words: Mapped[str | None]

    created_at: Mapped[float]
    claimed_at: Mapped[float | None]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key", name="one_probe_per_idempotency_key"),
        Index("probe_by_state", "state", "created_at"),
        Index("probe_by_fingerprint", "fingerprint"),
        Index("probe_by_creation", "created_at", "id"),
        Index("probe_by_end", "forgotten", "finished_at", "id"),
    )


class Event(Base):
    """What happened to a probe, in order. `seq` is the id a reader of the event stream resumes from."""

    __tablename__ = "event"

    probe_id: Mapped[str] = mapped_column(ForeignKey("probe.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(PlainString(16))
    at: Mapped[float]
    body: Mapped[dict[str, Any]]


class Evidence(Base):
    """One Measurement kept by this installation, its own or imported. The digest makes imports repeatable."""

    __tablename__ = "evidence"

    digest: Mapped[str] = mapped_column(PlainString(64), primary_key=True)
    origin: Mapped[str]
    instrument: Mapped[str] = mapped_column(PlainString(16))
    fingerprint: Mapped[str] = mapped_column(PlainString(64))
    device_name: Mapped[str]
    measurement: Mapped[dict[str, Any]]
    created_at: Mapped[float]

    __table_args__ = (
        Index("evidence_by_fingerprint", "fingerprint"),
        Index("evidence_by_device", "instrument", "device_name"),
        Index("evidence_by_creation", "created_at", "digest"),
    )


class Token(Base):
    """A bearer token's hash. The token itself is shown once and never stored."""

    __tablename__ = "token"

    id: Mapped[str] = mapped_column(PlainString(16), primary_key=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(PlainString(64))
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class Lease(Base):
    """Who may act under a name until when, on the database's clock. `fence` grows with each change of hands."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(PlainString(32), primary_key=True)
    holder: Mapped[str]
    fence: Mapped[int]
    expires_at: Mapped[float]


class Worker(Base):
    """A worker as the dispatcher saw it last, so that every replica can show it."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]]
    problem: Mapped[str | None]
    seen_at: Mapped[float]
