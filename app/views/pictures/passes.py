"""Preference and online training: the passes over one micro-batch, and what the reference adds to the peak."""

from collections.abc import Mapping
from typing import Any

from app.drawing.bars import Bars, Row, draw_bars
from app.views.pictures.ranks import parts_by
from planner.answer.plan import Plan, plan
from planner.errors import FitproofError
from planner.ledger import Line
from planner.request.generation import GenerationFields
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.passes import Pass, passes_of

WORDS = {
    "policy": "The trained model’s weights",
    "reference": "The reference’s weights",
    "trained": "What is trained, and its state",
    "activations": "Activations of all sequences",
    "logits": "Logits and loss",
    "outside": "Workspace, runtime and what is outside torch",
}
COLOURS = {
    "policy": "weights", "reference": "gradients", "trained": "optimizer", "activations": "activations",
    "logits": "logits", "outside": "rest",
}  # fmt: skip
_KIND_OF_CAUSE = {
    "weights": "policy", "adapters": "trained", "gradients": "trained", "optimizer": "trained",
    "activations": "activations", "logits": "logits", "workspace": "outside", "runtime": "outside",
}  # fmt: skip
_REFERENCES = {"adapters_disabled": "the adapters off", "copy": "a second model"}
_SUPERVISED, _BEFORE = "supervised, for comparison", "reference scores worked out before"
# How else the same run could get the reference's scores, and without any.
_WAYS: dict[str, dict[str, Any]] = {
    _SUPERVISED: {
        "objective": "sft", "precompute_ref_log_probs": False, "ref_model": None,
        **{name: field.default for name, field in GenerationFields.model_fields.items()},
    },
    _BEFORE: {"precompute_ref_log_probs": True, "ref_model": None},
    "reference: the adapters off": {"precompute_ref_log_probs": False, "ref_model": None},
    "reference: a second model": {"precompute_ref_log_probs": False, "ref_model": "copy"},
}


def passes_in_words(recipe: Recipe) -> list[str]:
    """What runs over each micro-batch, in its order."""
    trained = "the reward model" if recipe.objective == "reward" else "the policy"
    before = ["the policy, generation: a cache of keys and values grows token by token"] if recipe.generates else []
    return [*before, *(_in_words(one, trained) for one in passes_of(recipe)), f"{trained}, backward"]


def _in_words(one: Pass, trained: str) -> str:
    if one.weights == "trained":
        kept = "what backward needs is kept" if one.gradients else "nothing is kept but scores"
        return f"{trained}, forward: {kept}"
    return f"the reference, forward: {_REFERENCES[one.weights]}, nothing is kept but scores"


def draw_passes(planned: Plan) -> Bars:
    """The peak of this plan beside those of the other ways to get the reference's scores, and of no preferences."""
    mine = _way(planned.recipe)
    rows = [Row(f"{mine}, this plan" if mine else "this plan", parts_of(planned), marked=True)]
    ways = {name: change for name, change in _WAYS.items() if name != mine and (mine or name == _SUPERVISED)}
    for name, change in ways.items():
        other = _replanned(planned, change)
        if other is not None and _way(other.recipe) == name:
            rows.append(Row(name, parts_of(other)))
    return draw_bars(rows, planned.usable_bytes)


def parts_of(planned: Plan) -> dict[str, int]:
    """Likely bytes by kind, at the fullest moment."""
    return parts_by(planned, WORDS, _kind)


def _kind(line: Line) -> str:
    return "reference" if line.name == "reference model" else _KIND_OF_CAUSE[line.cause]


def _way(recipe: Recipe) -> str | None:
    """Which of the ways above a recipe goes; None where its objective has no reference, or no choice of one (GRPO)."""
    if recipe.objective == "sft":
        return _SUPERVISED
    if recipe.scores_by_reference and recipe.objective != "grpo":
        return f"reference: {_REFERENCES[recipe.reference]}"
    return _BEFORE if recipe.training.precompute_ref_log_probs else None


def _replanned(planned: Plan, change: Mapping[str, Any]) -> Plan | None:
    document = planned.request.model_dump(mode="json")
    document["training"] |= change
    try:
        return plan(Request.parse(document), model=planned.model, gpu=planned.gpu)
    except FitproofError:
        return None
