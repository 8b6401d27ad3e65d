"""What would make it fit: single changes first, combinations where one is not enough, larger cards last.

Every change is planned before it is named, so that it gives the verdict it promises.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from planner.answer.more_cards import cost_of, more_cards
from planner.answer.verdict import Verdict
from planner.errors import FitproofError
from planner.request.optimizer_names import KEPT
from planner.request.schema import CHAPTER_QUANTIZATION, Quantization, Request
from planner.step import liger_models
from planner.tensors.targets import ALL_LINEAR, module_name

if TYPE_CHECKING:
    from planner.answer.plan import Plan

Replan = Callable[[Request], "Plan"]
Change = Mapping[str, Any]

# What a change costs, from nothing to something that changes the trained model. Ranks, not measures.
FREE, SLOWER, DIFFERENT = range(3)
LONGEST_COMBINATION = 6
MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Advice:
    """A change, by dotted path into the request, with the verdict it was planned to give."""

    change: Change
    saves_bytes: int
    verdict: Verdict
    cost: str

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        change = {path: list(value) if isinstance(value, tuple) else value for path, value in self.change.items()}
        return {"change": change, "saves_bytes": self.saves_bytes, "verdict": self.verdict, "cost": self.cost}


@dataclass(frozen=True, slots=True)
class _Candidate:
    change: Change
    cost: str
    rank: int


@dataclass(frozen=True, slots=True)
class _Tried:
    candidate: _Candidate
    plan: "Plan"


def advise(plan: "Plan", replan: Replan, smallest_cards: Callable[[Request], Sequence["Plan"]]) -> tuple[Advice, ...]:
    """Changes that make `plan` fit, cheapest first and among equals the one that saves most; none where it fits."""
    if plan.verdict == "fits":
        return ()
    tried = [*_tried(plan, replan, _candidates(plan)), *_searched(plan, replan)]
    helping = [item for item in tried if item.plan.smallest_bytes < plan.smallest_bytes]
    fitting = [item for item in helping if item.plan.verdict == "fits"]
    if not fitting:
        combined = _combined(plan, replan, helping)
        fitting = [combined] if combined else [item for item in helping if item.plan.verdict == "tight"]
    fitting.sort(key=lambda item: (item.candidate.rank, item.plan.smallest_bytes))
    shown = [_advice(plan, item) for item in fitting[:MOST_SHOWN]]
    cards = [
        Advice({"gpu": card.gpu.id}, 0, card.planned_verdict, f"another card: {card.gpu.name}")
        for card in smallest_cards(plan.request)
    ]
    return (*shown, *_several(plan, replan), *cards)


def _several(plan: "Plan", replan: Replan) -> Iterator[Advice]:
    """The fewest cards that do with FSDP, and what a host's memory makes possible; of each kind one."""
    kinds: set[object] = set()
    for change in more_cards(plan):
        kind = change.get("fsdp", "deepspeed")
        if kind in kinds:
            continue
        for item in _tried(plan, replan, [_Candidate(change, "", DIFFERENT)]):
            # What no dry run has shown is tight at best, and still worth naming.
            enough = item.plan.planned_verdict == "fits"
            if enough and item.plan.smallest_bytes < plan.smallest_bytes:
                kinds.add(kind)
                yield replace(_advice(plan, item), cost=cost_of(change, item.plan))


def apply(request: Request, change: Change) -> Request:
    """Return `request` with every dotted path of `change` set.

    Raises:
        InvalidRequestError: the change leads to a request that cannot be used.
    """
    sections: dict[str, Any] = {}
    for path, value in change.items():
        section, _, field = path.partition(".")
        if not field:
            sections[section] = value
            continue
        if section not in sections:
            sections[section] = (getattr(request, section) or CHAPTER_QUANTIZATION).model_dump()
        sections[section][field] = value
    return Request.parse({name: sections.get(name, getattr(request, name)) for name in Request.model_fields})


def largest(holds: Callable[[int], bool], most: int) -> int:
    """Largest n in 1..most for which `holds`, which is true up to some n and false beyond; 0 if it never is."""
    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _tried(plan: "Plan", replan: Replan, candidates: Iterable[_Candidate]) -> Iterator[_Tried]:
    for candidate in candidates:
        try:
            yield _Tried(candidate, replan(apply(plan.request, candidate.change)))
        except FitproofError:  # a change this model or its adapters cannot take is no advice
            continue


def _candidates(plan: "Plan") -> Iterator[_Candidate]:
    """Single changes that may save memory, whether or not they are enough."""
    yield from _training_changes(plan)
    yield from _model_changes(plan)
    yield from _adapter_changes(plan)


def _training_changes(plan: "Plan") -> Iterator[_Candidate]:
    training, loss = plan.recipe.training, plan.recipe.loss
    if not training.gradient_checkpointing:
        cost = "one more forward pass per step"
        yield _Candidate({"training.gradient_checkpointing": True}, cost, SLOWER)
    if loss != "liger" and plan.model.known_decoder().model_type in liger_models.REPLACED:
        yield _Candidate({"training.loss": "liger"}, "none; needs liger-kernel", FREE)
    if loss == "full_logits" and plan.recipe.stack_name == "trl":
        yield _Candidate({"training.loss": "chunked"}, "none; TRL's own default", FREE)
    if plan.recipe.scores_by_reference:
        cost = "none in the steps; one pass over the data before the first"
        yield _Candidate({"training.precompute_ref_log_probs": True, "training.ref_model": None}, cost, FREE)
    if KEPT[training.optim].storage != "bnb_8bit" and training.optim != "sgd":
        cost = "optimizer state in 8 bit, large states paged to host memory"
        yield _Candidate({"training.optim": "paged_adamw_8bit"}, cost, SLOWER)
    elif training.optim in ("adamw_8bit", "adamw_bnb_8bit"):
        cost = "large optimizer states paged to host memory when room is short"
        yield _Candidate({"training.optim": "paged_adamw_8bit"}, cost, SLOWER)
    if training.attn_implementation == "eager":
        yield _Candidate({"training.attn_implementation": "sdpa"}, "none; same result, faster", FREE)
    if not training.expandable_segments:
        cost = "none; set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
        yield _Candidate({"training.expandable_segments": True}, cost, FREE)
    if training.padded:
        yield _Candidate({"training.padded": False}, "pack examples, or batch equal lengths", SLOWER)


def _model_changes(plan: "Plan") -> Iterator[_Candidate]:
    recipe = plan.recipe
    quantization = recipe.quantization
    if plan.request.stack == "kbit":
        yield _Candidate({"stack": "trainer"}, "none; Trainer does not need kbit preparation", FREE)
    if quantization is not None and quantization.load_in_4bit:
        if not quantization.bnb_4bit_use_double_quant:
            cost = "none that the QLoRA paper could measure"
            yield _Candidate({"quantization.bnb_4bit_use_double_quant": True}, cost, FREE)
        if quantization.bnb_4bit_compute_dtype == "float32":
            half = "bfloat16" if plan.gpu.native_bfloat16 else "float16"
            yield _Candidate({"quantization.bnb_4bit_compute_dtype": half}, "none; faster", FREE)
    elif quantization is not None:
        yield _Candidate(_as_chapter(quantization), "4 bits per weight instead of more", DIFFERENT)
    elif recipe.method == "lora":
        yield _Candidate({"method": "qlora"}, "4-bit base: slower steps, slightly different gradients", DIFFERENT)
    else:
        yield _Candidate({"method": "lora"}, "trains adapters, not the whole model", DIFFERENT)
        yield _Candidate({"method": "qlora"}, "trains adapters on a 4-bit base", DIFFERENT)


def _as_chapter(quantization: Quantization) -> Change:
    wanted = CHAPTER_QUANTIZATION.model_dump()
    return {
        f"quantization.{field}": wanted[field]
        for field, value in quantization.model_dump().items()
        if field != "llm_int8_skip_modules" and wanted[field] != value
    }


def _adapter_changes(plan: "Plan") -> Iterator[_Candidate]:
    lora = plan.recipe.lora
    if lora is None:
        return
    if lora.use_dora:
        yield _Candidate({"lora.use_dora": False}, "plain LoRA instead of DoRA", DIFFERENT)
    if lora.lora_dropout:
        yield _Candidate({"lora.lora_dropout": 0.0}, "no dropout on the adapters", DIFFERENT)
    if lora.r > 8:
        yield _Candidate({"lora.r": max(8, lora.r // 4)}, "fewer trainable parameters", DIFFERENT)
    attention = _attention_projections(plan)
    targets = lora.target_modules
    if attention and (targets == ALL_LINEAR or (isinstance(targets, tuple) and set(attention) < set(targets))):
        cost = "adapters on attention only; the QLoRA paper needed all layers to match full fine-tuning"
        yield _Candidate({"lora.target_modules": attention}, cost, DIFFERENT)


def _attention_projections(plan: "Plan") -> tuple[str, ...]:
    paths = [module_name(group).split(".") for group in plan.model.census if group.quantizable]
    return tuple(
        dict.fromkeys(path[-1] for path in paths if any("attn" in part or "attention" in part for part in path))
    )


def _searched(plan: "Plan", replan: Replan) -> Iterator[_Tried]:
    """The largest micro-batch and the longest length below the present ones that fit."""
    training = plan.recipe.training
    effective = training.per_device_train_batch_size * training.gradient_accumulation_steps
    for smaller in range(training.per_device_train_batch_size - 1, 0, -1):
        if effective % smaller:
            continue
        change = {
            "training.per_device_train_batch_size": smaller,
            "training.gradient_accumulation_steps": effective // smaller,
        }
        cost = f"{effective // smaller} smaller micro-batches per step; same effective batch of {effective}"
        found = list(_tried(plan, replan, [_Candidate(change, cost, SLOWER)]))
        if found and (found[0].plan.verdict == "fits" or smaller == 1):
            yield found[0]
            break
    yield from _shorter(plan, replan)


def _shorter(plan: "Plan", replan: Replan) -> Iterator[_Tried]:
    step = 64
    before = plan.recipe.length

    def at(steps: int) -> _Tried:
        change = {"training.max_length": steps * step}
        cost = f"examples cut at {steps * step:,} tokens instead of {before:,}"
        return _Tried(_Candidate(change, cost, DIFFERENT), replan(apply(plan.request, change)))

    steps = largest(lambda count: at(count).plan.verdict == "fits", (before - 1) // step)
    if steps:
        yield at(steps)


def _combined(plan: "Plan", replan: Replan, helping: Sequence[_Tried]) -> _Tried | None:
    """Add one change after another, the cheapest that save most first, until it fits; else until it is tight."""
    ordered = sorted(helping, key=lambda item: (item.candidate.rank, item.plan.smallest_bytes))
    chosen: list[_Candidate] = []
    best, tight = plan, None
    for item in ordered:
        attempt = _merged([*chosen, item.candidate])
        if attempt is None or len(chosen) == LONGEST_COMBINATION:
            continue
        for tried in _tried(plan, replan, [attempt]):
            if tried.plan.smallest_bytes < best.smallest_bytes:
                chosen.append(item.candidate)
                best = tried.plan
                if best.verdict == "fits":
                    return _pruned(plan, replan, chosen, tried)
                tight = tried if best.verdict == "tight" else tight
    return tight


def _pruned(plan: "Plan", replan: Replan, chosen: Sequence[_Candidate], enough: _Tried) -> _Tried:
    """Leave out what it fits without, the dearest first."""
    kept = list(chosen)
    for candidate in sorted(chosen[:-1], key=lambda item: -item.rank):
        fewer = _merged([other for other in kept if other is not candidate])
        for tried in _tried(plan, replan, [fewer] if fewer else []):
            if tried.plan.verdict == "fits":
                kept.remove(candidate)
                enough = tried
    return enough


def _merged(candidates: Sequence[_Candidate]) -> _Candidate | None:
    """Several changes as one; None where two of them set the same field."""
    change: dict[str, Any] = {}
    for candidate in candidates:
        if change.keys() & candidate.change.keys():
            return None
        change |= candidate.change
    costs = dict.fromkeys(candidate.cost.removeprefix("none; ").removeprefix("none") for candidate in candidates)
    return _Candidate(change, "; ".join(filter(None, costs)) or "none", max(candidate.rank for candidate in candidates))


def _advice(plan: "Plan", item: _Tried) -> Advice:
    saves_bytes = plan.smallest_bytes - item.plan.smallest_bytes
    return Advice(dict(item.candidate.change), saves_bytes, item.plan.verdict, item.candidate.cost)
