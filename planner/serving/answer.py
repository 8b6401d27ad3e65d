"""The answer to one inference question: does it fit, how much context would, for how many users."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.answer.limits import furthest
from planner.answer.verdict import Estimate
from planner.catalog import resolve_gpu
from planner.errors import UnknownArchitectureError
from planner.gpu import Gpu
from planner.ledger import Line
from planner.model.model import Model, config_facts, resolve_model
from planner.serving.kv_cache import cache_bytes
from planner.serving.request import Inference
from planner.serving.transformers_generate import PHASES, generated

# The request's own bounds on the two fields.
MOST_CONTEXT, MOST_BATCH = 16_777_216, 65_536


@dataclass(frozen=True, slots=True)
class Served:
    """What an engine allocates for one question, phase by phase, on one card."""

    asked: Inference
    model: Model
    gpu: Gpu
    lines: tuple[Line, ...]
    totals: Mapping[str, int]
    estimate: Estimate

    @property
    def verdict(self) -> str:
        """As a plan's: fits only at the high end of the range."""
        return self.estimate.verdict()

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        peak = max(self.totals, key=self.totals.__getitem__)
        required = self.estimate.required()
        likely = required.likely
        return {
            "verdict": self.verdict,
            "engine": self.asked.engine,
            "gpu": {"id": self.gpu.id, "name": self.gpu.name},
            "model": self.model.id,
            "peak_allocated_bytes": self.totals[peak],
            "peak_phase": peak,
            "required_bytes": {"low": required.low, "likely": likely, "high": required.high},
            "usable_bytes": self.gpu.usable_bytes,
            "headroom_bytes": self.gpu.usable_bytes - likely,
            "phases": [{"name": name, "allocated_bytes": total} for name, total in self.totals.items()],
            "lines": [_line(line) for line in self.lines],
            "cache_bytes": self._cache_bytes(),
            "limits": self.limits(),
        }

    def _cache_bytes(self) -> int:
        decoder = self.model.known_decoder()
        return cache_bytes(decoder, self.asked.batch, self.asked.context, each=2)

    def limits(self) -> dict[str, int | None]:
        """The longest context for this batch and the largest batch for this context that fit; 0 where none does.

        `context` is not longer than the model was made for; `made_for` says that length, where its config does.
        """
        made_for = config_facts(self.model.config).get("max_position_embeddings")
        context = furthest(lambda value: self._fits(context=value), made_for or MOST_CONTEXT)
        return {"context": context, "batch": furthest(lambda value: self._fits(batch=value), MOST_BATCH),
                "made_for": made_for}  # fmt: skip

    def _fits(self, **change: int) -> bool:
        """Whether the same question fits with another context or batch; a short context has a shorter answer."""
        asked = self.asked.model_copy(update=change)
        asked = asked.model_copy(update={"context": max(2, asked.context)})  # a prompt and an answer
        asked = asked.model_copy(update={"max_new_tokens": min(asked.max_new_tokens, asked.context - 1)})
        return served(asked, model=self.model, gpu=self.gpu).verdict == "fits"


def served(asked: Inference, *, model: Model | None = None, gpu: Gpu | None = None) -> Served:
    """Answer a question. `model` and `gpu` spare the look-up, or stand for what no catalogue knows.

    Raises:
        FitproofError: the names lead nowhere, or no formula knows this model or this way of running it.
    """
    model, gpu = model or resolve_model(asked.model), gpu or resolve_gpu(asked.gpu)
    try:
        found = generated(asked, model, gpu)
    except NotImplementedError as error:
        raise UnknownArchitectureError(f"The formulas cannot plan this: {error}.", dry_run=True) from None
    peak_bytes = max(found.totals[name] for name in PHASES)
    method = "qlora" if asked.quantization else "lora"
    estimate = Estimate(peak_bytes, lambda: peak_bytes, gpu, method=method)
    return Served(asked, model, gpu, found.lines, found.totals, estimate)


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name, "bytes": line.bytes, "cause": line.cause, "alive_in": list(line.alive_in),
        "formula": line.formula, "working": line.working, "evidence": line.evidence, "source": line.source,
    }  # fmt: skip
