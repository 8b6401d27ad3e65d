"""The states of a probe and every step between them.

queued ──▶ claimed ──▶ running ──▶ succeeded    an answer; out of memory is one
  ▲           │           │   ├──▶ failed       the machinery broke, with a sentence
  └───────────┴───────────┘   └──▶ cancelled    on request
    the engine lost it: next attempt
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

State = Literal["queued", "claimed", "running", "succeeded", "failed", "cancelled"]

LIVE: tuple[State, ...] = ("claimed", "running")
FINAL: tuple[State, ...] = ("succeeded", "failed", "cancelled")
STATES: tuple[State, ...] = ("queued", *LIVE, *FINAL)

# A claimed probe may end between two looks, so `claimed` reaches every state that `running` does.
_ENDS: frozenset[State] = frozenset({"queued", *FINAL})
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        "queued": frozenset({"claimed", "cancelled", "failed"}),
        "claimed": _ENDS | {"running"},
        "running": _ENDS,
        "succeeded": frozenset(),
        "failed": frozenset(),
        "cancelled": frozenset(),
    }
)

MOST_ATTEMPTS = 3
# Attempts that ended with their server do not count among those, but a probe that takes its server along must end, too.
MOST_SERVER_ENDS = 50


def may_move(start: str, end: State) -> bool:
    """Whether the table has this step."""
    return end in TRANSITIONS.get(start, frozenset())  # type: ignore[call-overload]  # a column holds plain text


def is_final(state: str) -> bool:
    """Whether nothing can happen to this probe any more."""
    return state in FINAL
