"""A training step as a list of passes: which weights run over the batch, and whether a graph is kept of it.

Source: trl 1.16 trainer/dpo_trainer.py and kto_trainer.py _compute_loss: the trained model first, the reference model
after it, without gradients and without checkpointing, while all that the first pass saved is there. grpo_trainer.py
_generate_and_score_completions: all that is scored without gradients comes first.
"""

from dataclasses import dataclass
from typing import Literal

from planner.request.recipe import Recipe

Weights = Literal["trained", "adapters_disabled", "copy"]


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward over the whole micro-batch; only the one with gradients is run backward."""

    weights: Weights
    gradients: bool


TRAINED = Pass("trained", gradients=True)
ONE_PASS = (TRAINED,)


def scores_by_reference(passes: tuple[Pass, ...]) -> bool:
    """Whether a reference model is among them."""
    return any(one.weights != "trained" for one in passes)


def estimates_kl(objective: str, number: int) -> bool:
    """Whether a pass of KTO's runs over completions of others: the first of each of its two models."""
    return objective == "kto" and number % 2 == 0


def passes_of(recipe: Recipe) -> tuple[Pass, ...]:
    """The passes of one micro-batch, in their order.

    KTO scores completions that belong to other prompts first, by both models, to estimate how far they are apart. GRPO
    scores what it generated before it trains on it, as many sequences at a time as it trains on.
    """
    once: tuple[Pass, ...] = ()
    if recipe.reference != "none" and recipe.scores_by_reference:
        once = (Pass(recipe.reference, gradients=False),)
    if recipe.objective == "grpo":
        own = recipe.training.scores_own_completions(recipe.training.gradient_accumulation_steps)
        return (*((Pass("trained", gradients=False),) if own else ()), *once, TRAINED)
    if recipe.objective == "kto":
        return (Pass("trained", gradients=False), TRAINED, *once, *once)
    return (TRAINED, *once)
