"""What to do about a live probe, as a pure function of its row and its engine's status."""

from dataclasses import dataclass
from typing import Literal, Protocol

from app.engines.base import Status
from app.jobs.states import MOST_ATTEMPTS, MOST_SERVER_ENDS, State

# The probe ends itself at its deadline and the engine a little later; if neither did, the app does.
DEADLINE_GRACE_SECONDS = 20.0


class LiveProbe(Protocol):
    """The columns that decide."""

    state: str
    attempt: int
    server_ends: int
    seen: bool
    cancel_requested: bool
    deadline_seconds: int
    measurement: dict[str, object] | None
    last_words: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """`submit` the same ref, `wait`, `stop` it, `finish` in `end`, or `requeue` as the next attempt."""

    act: Literal["submit", "wait", "stop", "finish", "requeue"]
    end: State | None = None
    reason: str | None = None
    with_server: bool = False


def decide(probe: LiveProbe, status: Status, ran_seconds: float) -> Step:
    """Pick the next step. The log has been read up to this status; the attempt has run `ran_seconds` in our sight."""
    if status.phase == "absent" and not probe.seen:
        # The server died between claim and submit.
        return Step("finish", "cancelled") if probe.cancel_requested else Step("submit")
    if status.phase in {"absent", "lost"}:
        # What an engine has forgotten ended with it: a server on another host, or a cluster's head.
        with_server = status.with_server or status.phase == "absent"
        return _after_loss(probe, status.reason or "the engine no longer knows this attempt", with_server=with_server)
    if status.phase in {"pending", "running"}:
        return _while_alive(probe, status, ran_seconds)
    if status.phase == "succeeded":
        return _after_success(probe)
    return _after_failure(probe, status, ran_seconds)


def overdue(probe: LiveProbe, ran_seconds: float) -> bool:
    """Whether the attempt ran past its deadline plus the time its engine had to end it."""
    return ran_seconds > probe.deadline_seconds + DEADLINE_GRACE_SECONDS


def _while_alive(probe: LiveProbe, status: Status, ran_seconds: float) -> Step:
    if probe.cancel_requested and status.phase == "pending":
        # Ray ignores a stop until the job gets its GPU, then ends it before it runs (ray#58353).
        return Step("stop", "cancelled")
    return Step("stop") if probe.cancel_requested or overdue(probe, ran_seconds) else Step("wait")


def _after_loss(probe: LiveProbe, reason: str, *, with_server: bool = False) -> Step:
    if probe.measurement is not None:
        return Step("finish", "succeeded")
    if probe.cancel_requested:
        return Step("finish", "cancelled")
    given_up = (
        probe.server_ends >= MOST_SERVER_ENDS if with_server else probe.attempt - probe.server_ends >= MOST_ATTEMPTS
    )
    if given_up:
        return Step("finish", "failed", f"given up after {probe.attempt} attempts: {reason}")
    return Step("requeue", reason=reason, with_server=with_server)


def _after_success(probe: LiveProbe) -> Step:
    if probe.measurement is not None:
        return Step("finish", "succeeded")
    return Step("finish", "failed", f"the probe ended without a measurement{_said(probe)}")


def _after_failure(probe: LiveProbe, status: Status, ran_seconds: float) -> Step:
    if probe.cancel_requested:
        return Step("finish", "cancelled")
    if overdue(probe, ran_seconds):
        return Step("finish", "failed", f"the probe did not end within its deadline of {probe.deadline_seconds} s")
    if status.phase == "stopped":
        return _after_loss(probe, "somebody stopped it in the cluster")
    spoke = status.exit_code is not None and status.exit_code > 0
    return Step("finish", "failed", f"{status.reason or 'the probe failed'}{_said(probe) if spoke else ''}")


def _said(probe: LiveProbe) -> str:
    return f": {probe.last_words}" if probe.last_words else ""
