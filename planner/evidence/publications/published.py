"""Training runs that others measured and published, each as a Request and the bytes they read. No torch.

A request says what the run's releases did where today's do otherwise: torch 2.6 ran float32 attention with
grouped keys in the math kernel (`sdpa_kernel`), as the bytes of those runs show.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from planner.request.schema import Request

Metric = Literal["peak_allocated", "peak_reserved", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """One measured run. Allocated, reserved and process figures are never mixed: `metric` says which `bytes` is.

    `also` holds what else the same run read, under the names of the metrics and of the phases
    (`load_resident`, `forward_peak`, `backward_peak`, `optimizer_peak`), all in bytes.
    """

    id: str
    request: Request
    metric: Metric
    bytes: int
    rounding_half_width_bytes: int
    also: dict[str, int]
    versions: dict[str, str]
    gpu: str
    harness: str
    source: str
    source_url: str
    date: str
    grade: str
    doubts: tuple[str, ...]

    @property
    def family(self) -> str:
        """Who published it: `fitcheck`, `fms`, `fms-hist`."""
        return self.id.rsplit("-", 1)[0]


@lru_cache(maxsize=1)
def published_runs() -> tuple[PublishedRun, ...]:
    """Every run in `published.jsonl`, in the order of the file."""
    text = (files("planner.evidence.publications") / "published.jsonl").read_text(encoding="utf-8")
    return tuple(_run(json.loads(line)) for line in text.splitlines())


def _run(row: dict[str, Any]) -> PublishedRun:
    return PublishedRun(**{**row, "request": Request.parse(row["request"]), "doubts": tuple(row["doubts"])})
