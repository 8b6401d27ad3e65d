"""Tokens per second: a card's limits, the shares of them that published runs reached, and how far those runs scatter.

A micro-batch takes flops / (reached share of the tensor cores) + moved bytes / (reached share of the bandwidth). The
two shares and the range are fitted by `python -m planner.evidence.throughput`; nothing else is.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from planner.gpu import Gpu
from planner.request.recipe import Recipe
from planner.throughput.work import Work

FITTED_FILE = Path(__file__).with_name("fitted.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What published runs showed. `over_low` and `over_high`: measured over predicted, at the ends of their range.

    `capabilities` and `least_tokens` say which runs they were: their cards, and their smallest micro-batch.
    """

    tensor_cores: float
    bandwidth: float
    over_low: float
    over_high: float
    runs: int
    capabilities: tuple[tuple[int, int], ...]
    least_tokens: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Tokens per second of all cards together, or `why_not`.

    `low` is None where no published run is near; `high` is then what the card's limits allow, all of them reached.
    """

    low: float | None = None
    likely: float | None = None
    high: float | None = None
    evidence: str = ""
    why_not: str = ""


@lru_cache(maxsize=1)
def fitted() -> Fitted:
    """Read what was fitted."""
    document = json.loads(FITTED_FILE.read_text())
    document["capabilities"] = tuple(tuple(pair) for pair in document["capabilities"])
    return Fitted(**document)


def micro_batch_seconds(work: Work, gpu: Gpu, tensor_cores: float, bandwidth: float) -> float:
    """How long `work` takes at these shares of the card's limits; the card's limits are known."""
    assert gpu.half_flops is not None  # noqa: S101 (asked before)
    assert gpu.bandwidth_bytes_s is not None  # noqa: S101 (as above)
    return work.flops / (gpu.half_flops * tensor_cores) + work.moved_bytes / (gpu.bandwidth_bytes_s * bandwidth)


def throughput(work: Work, recipe: Recipe, gpu: Gpu) -> Throughput:
    """What `gpu` makes of `work`."""
    if why := _why_not(recipe, gpu):
        return Throughput(why_not=why)
    known, cards = fitted(), recipe.layout.world
    likely = cards * work.tokens / micro_batch_seconds(work, gpu, known.tensor_cores, known.bandwidth)
    far = _far_from_evidence(work, recipe, gpu, known)
    if not far:
        return Throughput(
            low=likely * known.over_low, likely=likely, high=likely * known.over_high, evidence=known.source
        )
    limit = cards * work.tokens / micro_batch_seconds(work, gpu, 1.0, 1.0)
    return Throughput(
        likely=likely,
        high=limit,
        evidence=f"as fast as {known.runs} published runs, of which none is near: {'; '.join(far)}",
    )


def _why_not(recipe: Recipe, gpu: Gpu) -> str:
    if gpu.half_flops is None or gpu.bandwidth_bytes_s is None:
        return "no source tells how fast this card's tensor cores or its memory are"
    if "float32" in {recipe.compute_dtype, recipe.autocast or recipe.compute_dtype}:
        return "products in float32 are not planned for time"
    if recipe.compute_dtype == "bfloat16" and not gpu.native_bfloat16:
        return "this card's tensor cores do not multiply bfloat16; float16 is planned"
    if recipe.layout.strategy == "device_map":
        return "cards take turns, so that a step takes no less than on one; no published run tells how much more"
    if recipe.layout.shards or recipe.layout.strategy not in {"single", "ddp"}:
        return "the time that shards take between cards is not planned"
    return ""


def _far_from_evidence(work: Work, recipe: Recipe, gpu: Gpu, known: Fitted) -> tuple[str, ...]:
    """In what this run is unlike those that were published."""
    far = []
    if gpu.compute_capability not in known.capabilities:
        far.append("none was on this kind of card")
    far += [f"none had {part}" for part in work.unusual]
    if work.tokens < known.least_tokens:
        far.append(f"none had under {known.least_tokens:,} tokens in a micro-batch, where the host may slow a run")
    if recipe.layout.world > 1:
        far.append("none counted was on several cards")
    return tuple(far)
