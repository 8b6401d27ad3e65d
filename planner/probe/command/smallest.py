"""The smallest card each process would have survived on: its allocations played again with less and less memory."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.errors import FitproofError
from planner.probe.card.preload import CARDS_VARIABLE
from planner.probe.card.spec import CardSpec

# How much more memory the cards of a second run have, where the first ran out of it.
LARGER = 16


class ReplayFailedError(FitproofError):
    """The replay ended without an answer; the title says what it said."""

    code = "replay_failed"


def larger(cards: Sequence[CardSpec]) -> tuple[CardSpec, ...]:
    """The same cards with memory enough to see a whole step."""
    return tuple(replace(card, total_bytes=card.total_bytes * LARGER) for card in cards)


def smallest_capacities(
    folder: Path, run: Mapping[str, Any], processes: Sequence[Mapping[str, Any]], cards: Sequence[CardSpec]
) -> dict[int, dict[str, Any]]:
    """By rank: `bytes` of the smallest card that is enough, or None and `why` not. Of processes that ended well.

    Raises:
        ReplayFailedError: the replay said nothing.
    """
    played = [process for process in processes if "replay" in process and process["outcome"] != "out_of_memory"]
    answers: dict[int, dict[str, Any]] = {}
    for place in {(one["replay"]["executable"], one["replay"]["site"]) for one in played}:
        here = [one for one in played if (one["replay"]["executable"], one["replay"]["site"]) == place]
        spec = {"run": run, "site": place[1], "card": _card_text(cards[0]), "traces": [_trace(one) for one in here]}
        for process, answer in zip(here, _replayed(folder, place[0], spec), strict=True):
            answers[process["rank"]] = answer
    return answers


def _trace(process: Mapping[str, Any]) -> dict[str, Any]:
    card = process["card"]
    return {
        "file": process["replay"]["file"],
        "context_bytes": card["context_bytes"],
        "allocated_bytes": process["peak_allocated_bytes"],
        "reserved_bytes": process["peak_reserved_bytes"],
        "aside_bytes": max(0, card["peak_used_bytes"] - card["context_bytes"] - process["peak_reserved_bytes"]),
    }


def _card_text(card: CardSpec) -> str:
    """The card as FITPROOF_CARDS writes it, but for its memory, which each replay chooses."""
    return ";".join(field for field in card.text.split(";") if not field.startswith("total_bytes="))


def _replayed(folder: Path, executable: str, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    file = folder / "replay.json"
    file.write_text(json.dumps(spec), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name not in ("FITPROOF_CARD_SET", "LD_PRELOAD")}
    bootstrap = str(Path(__file__).parent / "bootstrap")
    environment = {**kept, "PYTHONPATH": bootstrap, CARDS_VARIABLE: f"total_bytes=1073741824;{spec['card']}"}
    command = [executable, "-m", "fitproof_bootstrap.replay", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ReplayFailedError(f"The smallest card was not found: {said[-1] if said else 'the replay said nothing'}.")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
