"""The answer to one inference question: does it fit, how much context would, for how many users."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.answer.reach.limits import furthest
from planner.answer.verdict import Estimate, Required, Verdict
from planner.catalog import resolve_gpu
from planner.errors import UnknownArchitectureError
from planner.gpu import Gpu
from planner.ledger import Line
from planner.model.model import Model, config_facts, resolve_model
from planner.model.quantized_checkpoint import on_card
from planner.model.resolved_request import settled
from planner.overheads.ranges import card_context_band
from planner.serving import llama_cpp, vllm
from planner.serving.quantized_groups import refuse_uneven_groups
from planner.serving.request import Inference
from planner.serving.transformers_generate import generated, standing_lines
from planner.step.attention.kv_cache import CACHE
from planner.step.cache_bytes import cache_bytes
from planner.step.recorded import Comparison, nearest

# The request's own bounds on the two fields.
MOST_CONTEXT, MOST_BATCH = 16_777_216, 65_536


@dataclass(frozen=True, slots=True)
class Served:
    """What an engine allocates for one question, phase by phase, on one card.

    `usable_bytes` is what the driver gives torch; of vLLM the share of it that it was told to take.
    """

    asked: Inference
    model: Model
    gpu: Gpu
    lines: tuple[Line, ...]
    totals: Mapping[str, int]
    required: Required
    usable_bytes: int
    comparison: Comparison | None = None

    @property
    def verdict(self) -> Verdict:
        """As a plan's: fits only at the high end of the range, does not fit only at its low end."""
        if self.required.low > self.usable_bytes:
            return "does_not_fit"
        return "fits" if self.required.high <= self.usable_bytes else "tight"

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        peak = max(self.totals, key=self.totals.__getitem__)
        required = self.required
        return {
            "verdict": self.verdict,
            "engine": self.asked.engine,
            "gpu": {"id": self.gpu.id, "name": self.gpu.name},
            "model": self.model.id,
            "peak_allocated_bytes": self.totals[peak],
            "peak_phase": peak,
            "required_bytes": {"low": required.low, "likely": required.likely, "high": required.high},
            "usable_bytes": self.usable_bytes,
            "headroom_bytes": self.usable_bytes - required.likely,
            "recorded": self.comparison.to_dict() if self.comparison else None,
            "phases": [{"name": name, "allocated_bytes": total} for name, total in self.totals.items()],
            "lines": [_line(line) for line in self.lines],
            "cache_bytes": self._cache_bytes(),
            "host_bytes": self.host_bytes,
            "limits": self.limits(),
        }

    @property
    def host_bytes(self) -> int:
        """Keys and values that an offloaded cache keeps in host memory: of all layers, without the last token, which is
        made and not read. The layer that is on the card at a time is counted, too.
        """
        if self.asked.cache_implementation != "offloaded":
            return 0
        decoder = self.model.known_decoder()
        return cache_bytes(decoder, self.asked.batch, self.asked.context - 1, each=2, repeated=True)

    def _cache_bytes(self) -> int:
        if self.asked.cache_implementation != "dynamic":  # what stands of it on the card beside the worst token
            return sum(line.bytes for line in self.lines if line.name == CACHE and "decode" in line.alive_in)
        decoder = self.model.known_decoder()
        repeated = self.asked.engine == "transformers"
        return cache_bytes(decoder, self.asked.batch, self.asked.context, each=2, repeated=repeated)

    def limits(self) -> dict[str, int | None]:
        """The longest context for this batch and the largest batch for this context that fit; 0 where none does.

        `context` is not longer than the model was made for; `made_for` says that length, where its config does.
        """
        batch = furthest(lambda value: self._fits(batch=value), MOST_BATCH)
        return {"context": self.longest_context(), "batch": batch, "made_for": self.made_for}

    @property
    def made_for(self) -> int | None:
        """Tokens that the model was made for, where its config says so."""
        found: int | None = config_facts(self.model.config).get("max_position_embeddings")
        return found

    def longest_context(self) -> int | None:
        """The longest that fits for this batch, no longer than the model was made for."""
        return furthest(lambda value: self._fits(context=value), self.made_for or MOST_CONTEXT)

    def _fits(self, **change: int) -> bool:
        """Whether the same question fits with another context or batch; a short context has a shorter answer."""
        asked = self.asked.model_copy(update=change)
        asked = asked.model_copy(update={"context": max(2, asked.context)})  # a prompt and an answer
        asked = asked.model_copy(update={"max_new_tokens": min(asked.max_new_tokens, asked.context - 1)})
        return _answered(asked, self.model, self.gpu).verdict == "fits"


def served(asked: Inference, *, model: Model | None = None, gpu: Gpu | None = None) -> Served:
    """Answer a question. `model` and `gpu` spare the look-up, or stand for what no catalogue knows.

    Raises:
        FitproofError: the names lead nowhere, or no formula knows this model or this way of running it.
    """
    model, gpu = model or resolve_model(asked.model), gpu or resolve_gpu(asked.gpu)
    refuse_uneven_groups(asked, model)
    return _answered(asked, model, gpu)


def _answered(asked: Inference, model: Model, gpu: Gpu) -> Served:
    try:
        return _ENGINES[asked.engine](asked, model, gpu)
    except NotImplementedError as error:
        raise UnknownArchitectureError(f"The formulas cannot plan this: {error}.", dry_run=True) from None


def _by_transformers(asked: Inference, model: Model, gpu: Gpu) -> Served:
    found = generated(asked, model, gpu)
    peak_bytes = max(found.totals.values())
    estimate = Estimate(peak_bytes, lambda: peak_bytes, gpu, method="qlora" if asked.quantization else "lora")
    comparison = nearest("generation", found.known)
    return Served(asked, model, gpu, found.lines, found.totals, estimate.required(), gpu.usable_bytes, comparison)


def _by_vllm(asked: Inference, model: Model, gpu: Gpu) -> Served:
    """Of the share it takes, what this context for this batch needs; the trial run's range is the answer's."""
    decoder = model.known_decoder()
    recipe = on_card(asked.recipe(settled(asked.as_loaded(), model)), gpu)
    weights = [line for line in standing_lines(model, recipe, gpu) if line.cause == "weights"]
    weights = [replace(line, alive_in=("serve",), evidence="modelled") for line in weights if "decode" in line.alive_in]
    found = vllm.shares(asked, model, gpu, sum(line.bytes for line in weights))
    cache = asked.batch * vllm.sequence_bytes(asked, decoder, asked.context)
    likely = found.weights_bytes + found.trial_bytes + vllm.OUTSIDE_BYTES + cache
    low, high = (round(found.trial_bytes * (bound / vllm.SAMPLER_BYTES - 1)) for bound in vllm.SAMPLER_RANGE)
    required = Required(likely + low, likely, likely + high, (vllm.SAMPLER_SOURCE,))
    lines = (*weights, *vllm.lines(asked, found, decoder))
    return Served(asked, model, gpu, lines, _one_phase(lines), required, found.asked_bytes)


def _by_llama_cpp(asked: Inference, model: Model, gpu: Gpu) -> Served:
    """Everything on the card; the range is that of the CUDA context."""
    lines = tuple(llama_cpp.lines(asked, model))
    total, context = sum(line.bytes for line in lines), card_context_band(gpu)
    low, likely, high = (round(total + bound) for bound in (context.low, context.likely, context.high))
    required = Required(low, likely, high, (context.source,))
    return Served(asked, model, gpu, lines, _one_phase(lines), required, gpu.usable_bytes)


def _one_phase(lines: Iterable[Line]) -> dict[str, int]:
    return {"serve": sum(line.bytes for line in lines)}


_ENGINES = {"transformers": _by_transformers, "vllm": _by_vllm, "llama.cpp": _by_llama_cpp}


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name, "bytes": line.bytes, "cause": line.cause, "alive_in": list(line.alive_in),
        "formula": line.formula, "working": line.working, "evidence": line.evidence, "source": line.source,
    }  # fmt: skip
