"""The transition table and the decisions taken from it."""

from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import pytest

from app.engines.base import Phase, Status
from app.jobs.dispatch.deadlines import Stopwatch
from app.jobs.dispatch.decision import DEADLINE_GRACE_SECONDS, Step, decide
from app.jobs.states import FINAL, LIVE, MOST_ATTEMPTS, MOST_SERVER_ENDS, STATES, TRANSITIONS, may_move


@dataclass
class Row:
    state: str = "running"
    attempt: int = 1
    server_ends: int = 0
    seen: bool = True
    cancel_requested: bool = False
    deadline_seconds: int = 60
    measurement: dict[str, Any] | None = None
    last_words: str | None = None


def test_nothing_leaves_a_final_state_and_everything_reaches_one() -> None:
    assert all(not TRANSITIONS[state] for state in FINAL)
    assert all(set(FINAL) <= TRANSITIONS[state] for state in LIVE)
    assert set(TRANSITIONS) == set(STATES)


def test_a_queued_probe_cannot_run_or_succeed_unclaimed() -> None:
    assert not may_move("queued", "running")
    assert not may_move("queued", "succeeded")
    assert not may_move("nonsense", "running")


@pytest.mark.parametrize("phase", get_args(Phase))
def test_every_word_of_an_engine_leads_to_a_step_that_the_table_has(phase: Phase) -> None:
    for state, attempt, seen, cancel, measured, ran_seconds in product(
        LIVE, (1, MOST_ATTEMPTS), (True, False), (True, False), (None, {"outcome": "ok"}), (1.0, 1e6)
    ):
        row = Row(state=state, attempt=attempt, seen=seen, cancel_requested=cancel, measurement=measured)
        step = decide(row, Status(phase, "why"), ran_seconds)
        assert step.end is None or may_move(state, step.end)
        assert step.act != "requeue" or ((attempt < MOST_ATTEMPTS or step.with_server) and not cancel)
        assert step.end != "failed" or step.reason
        assert step.end != "succeeded" or measured
        assert step.act != "submit" or not seen


def test_a_failing_probe_is_quoted_and_a_killed_one_is_not() -> None:
    row = Row(last_words="The probe failed: no bitsandbytes")
    spoke = decide(row, Status("failed", "the probe ended with exit code 1", 1), 1.0)
    assert spoke == Step("finish", "failed", "the probe ended with exit code 1: The probe failed: no bitsandbytes")
    assert decide(row, Status("failed", "killed by SIGKILL", -9), 1.0).reason == "killed by SIGKILL"


def test_the_deadline_is_enforced_where_nobody_else_did() -> None:
    late = 60 + DEADLINE_GRACE_SECONDS + 1
    assert decide(Row(), Status("running"), late - 2) == Step("wait")
    assert decide(Row(), Status("running"), late) == Step("stop")
    assert decide(Row(), Status("stopped"), late).reason == "the probe did not end within its deadline of 60 s"


def test_a_job_that_somebody_stopped_in_the_cluster_runs_again() -> None:
    assert decide(Row(), Status("stopped"), 1.0).act == "requeue"
    assert decide(Row(cancel_requested=True), Status("stopped"), 1.0).end == "cancelled"


def test_an_answer_that_beat_the_cancellation_is_kept() -> None:
    row = Row(cancel_requested=True, measurement={"outcome": "ok"})
    assert decide(row, Status("succeeded"), 1.0).end == "succeeded"


def test_an_attempt_that_ends_with_its_server_costs_the_probe_nothing_within_reason() -> None:
    lost = Status("lost", "the server stopped", with_server=True)
    assert decide(Row(attempt=40, server_ends=39), lost, 1.0) == Step(
        "requeue", reason="the server stopped", with_server=True
    )
    assert decide(Row(attempt=40, server_ends=38), Status("lost", "the node died"), 1.0).act == "requeue"
    assert decide(Row(attempt=42, server_ends=39), Status("lost", "the node died"), 1.0).end == "failed"
    assert decide(Row(attempt=51, server_ends=MOST_SERVER_ENDS), lost, 1.0).end == "failed"


def test_a_stopwatch_counts_from_when_an_attempt_was_first_seen_to_run() -> None:
    now = [5.0]
    stopwatch = Stopwatch(lambda: now[0])
    assert stopwatch.seconds("a-1", runs=False) == 0.0
    assert stopwatch.seconds("a-1", runs=True) == 0.0
    now[0] = 8.0
    assert (stopwatch.seconds("a-1", runs=False), stopwatch.seconds("b-1", runs=True)) == (3.0, 0.0)
    stopwatch.keep({"b-1"})
    assert stopwatch.seconds("a-1", runs=True) == 0.0
