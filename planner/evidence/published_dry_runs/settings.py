"""The published settings, and what was read of a real card. No torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.evidence.published_dry_runs.environments import releases_of

SETTINGS_FILE = Path(__file__).with_name("settings.jsonl")
# transformers 5.0 quantizes while threads copy. By 5.8.1 (has_on_the_fly_quantization in core_model_loading.py) it
# quantizes in turn, and a model that is moved whole never knew a race.
SCHEDULES = 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One published run: `document` is its line of settings.jsonl."""

    document: dict[str, Any]

    @property
    def id(self) -> str:
        """Unique."""
        return str(self.document["id"])

    @property
    def measured(self) -> dict[str, int]:
        """What was read of the real card, in bytes, by moment; empty where it ran out of memory."""
        return dict(self.document["measured"])

    @property
    def outcome(self) -> str:
        """`completed` or `oom`."""
        return str(self.document["outcome"])

    @property
    def is_raced(self) -> bool:
        """Whether threads copied tensors while others were quantized; later releases quantize in turn."""
        transformers = releases_of(self.document["releases"])["transformers"]
        return self.document["quantization"] != "none" and transformers == "5.0.0"

    @property
    def rounding_bytes(self) -> int:
        """Half of the last digit that was published: can-i-finetune-this rounds to 0.0001 GiB, fitcheck not at all."""
        return 53_688 if self.document["harness"] == "canifinetune" else 0

    @property
    def load(self) -> tuple[Any, ...]:
        """Settings that agree in this load the same model in the same way."""
        keys = ("releases", "harness", "card", "model", "quantization", "rank", "checkpointing")
        return tuple(self.document.get(key) for key in keys)


def published_settings() -> tuple[Setting, ...]:
    """Every line of settings.jsonl."""
    return tuple(Setting(json.loads(line)) for line in SETTINGS_FILE.read_text(encoding="utf-8").splitlines())
