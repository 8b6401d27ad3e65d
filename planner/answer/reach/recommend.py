"""What can be trained on a card: for each size of model the best method that fits, and how far it stretches."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from planner.answer.plan import Plan, plan
from planner.answer.reach.fewest_cards import fewest_cards
from planner.answer.reach.limits import MOST, furthest
from planner.catalog.model_rows import ModelRow, model_catalog
from planner.families.parts import Experts
from planner.gpu import Gpu
from planner.model.model import Model, config_facts, resolve_model
from planner.request.schema import Method, Request
from planner.step import liger_models

# Sizes that models are published in, in billions of parameters: their name, and the most that goes by it.
SIZES = (("1B", 1.05), ("2B", 2.1), ("4B", 4.5), ("8B", 9.5), ("14B", 16.0), ("32B", 36.0), ("70B", 75.0))
# From what trains every weight to what trains a few beside a rounded base.
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")
# Shorter than this, a sequence holds no more than a question and its answer.
SHORTEST = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """The best that fits of one size. `longest` is the length at batch 1, `largest_batch` the batch at `at_length`.

    `outcome`: `card`, one card does; `cards`, `plan` is on several; `nothing`, not even eight cards do.
    """

    size: str
    model: ModelRow
    outcome: Literal["card", "cards", "nothing"]
    plan: Plan | None = None
    longest: int = 0
    largest_batch: int = 0
    at_length: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        found = self.plan
        return {
            "size": self.size,
            "model": self.model.id,
            "params": self.model.params,
            "outcome": self.outcome,
            "verdict": found.verdict if found else "does_not_fit",
            "method": found.request.method if found else None,
            "cards": found.request.gpus if found else None,
            "max_length": self.longest or None,
            "per_device_train_batch_size": self.largest_batch or None,
            "at_length": self.at_length or None,
            "required_bytes": found.required_bytes.likely if found else None,
            "request": found.request.model_dump(mode="json", exclude_unset=True) if found else None,
        }


@lru_cache(maxsize=128)
def recommend(gpu: Gpu) -> tuple[Choice, ...]:
    """One choice for each of `SIZES`, smallest first, by the recipe's defaults with Liger's loss."""
    return tuple(_choice(size, row, gpu) for size, row in models_by_size())


def document_of(gpu: Gpu) -> dict[str, Any]:
    """The answer of GET /recommend and of `fitproof recommend --json`."""
    return {
        "gpu": gpu.id,
        "name": gpu.name,
        "usable_bytes": gpu.usable_bytes,
        "choices": [choice.to_dict() for choice in recommend(gpu)],
    }


def models_by_size() -> Iterator[tuple[str, ModelRow]]:
    """The most downloaded dense text model of each size whose step the formulas know."""
    smaller = 0.0
    for size, most in SIZES:
        rows = (row for row in model_catalog().rows.values() if smaller < row.params / 1e9 <= most)
        yield size, max((row for row in rows if _stands_for_its_size(row)), key=lambda row: row.downloads)
        smaller = most


def _stands_for_its_size(row: ModelRow) -> bool:
    """No tower beside the text, and no experts: of those, the parameters do not tell what a step takes."""
    if row.full_model is not None:
        return False
    decoder = resolve_model(row.id).decoder
    return decoder is not None and not any(
        isinstance(block.mlp, Experts) or block.parallel_experts for block in decoder.structure.blocks
    )


def _choice(size: str, row: ModelRow, gpu: Gpu) -> Choice:
    model = resolve_model(row.id)
    methods = [method for method in METHODS if method != "qlora" or gpu.bitsandbytes_4bit]
    for method in methods:
        found = plan(_request(row, gpu, method, model), model=model, gpu=gpu)
        if found.verdict == "fits":
            return _stretched(size, row, found)
    leanest = _request(row, gpu, methods[-1], model)
    longest = _furthest(leanest, model, gpu, "max_length")
    if longest >= SHORTEST:
        return _stretched(size, row, plan(_with(leanest, "max_length", longest), model=model, gpu=gpu))
    # Where 4-bit weights lie whole on each card before they are cut, those of 16 bit may still do: they are cut first.
    for method in reversed([method for method in methods if method != "full"]):
        several = fewest_cards(_request(row, gpu, method, model), model=model, gpu=gpu)
        if several is not None:
            return _stretched(size, row, several)
    return Choice(size, row, "nothing")


def _request(row: ModelRow, gpu: Gpu, method: Method, model: Model) -> Request:
    """With what costs nothing: Liger's loss, where Liger replaces this kind of model's parts."""
    training = {"loss": "liger"} if model.model_type in liger_models.REPLACED else {}
    return Request.parse({"model": row.id, "gpu": gpu.id, "method": method, "training": training})


def _with(request: Request, field: str, value: int) -> Request:
    return request.model_copy(update={"training": request.training.model_copy(update={field: value})})


def _stretched(size: str, row: ModelRow, found: Plan) -> Choice:
    """`found` with its longest length, up to what the model was made for, and its largest batch."""
    request, model, gpu = found.request, found.model, found.gpu
    context = config_facts(row.config).get("max_position_embeddings", MOST["max_length"])
    return Choice(
        size,
        row,
        "card" if request.gpus == 1 else "cards",
        found,
        longest=min(_furthest(request, model, gpu, "max_length"), context),
        largest_batch=_furthest(request, model, gpu, "per_device_train_batch_size"),
        at_length=request.training.max_length,
    )


def _furthest(request: Request, model: Model, gpu: Gpu, field: str) -> int:
    def fits(value: int) -> bool:
        return plan(_with(request, field, value), model=model, gpu=gpu).planned_verdict == "fits"

    return furthest(fits, MOST[field])
