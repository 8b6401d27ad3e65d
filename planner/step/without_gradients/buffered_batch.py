"""What GRPO's trainer keeps of a generation: it trains on it, and replaces it when the next one is there.

Source: trl 1.16 trainer/grpo_trainer.py _prepare_inputs: `_buffered_inputs` are replaced after the next generation has
been scored, so that two batches are there while completions are generated. transformers/trainer.py: the sum of losses
and the number of tokens stay on the card from step to step.
"""

from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.units import allocated

_IDS_BYTES, _SCORE_BYTES = 8, 4
_SOURCE = "trl 1.16 trainer/grpo_trainer.py _prepare_inputs, _generate_and_score_completions"


def buffered_batch(recipe: Recipe, phase: str) -> tuple[Line, ...]:
    """The line of the buffered batch as it stands in `phase`, none where nothing is generated.

    Prompts and completions with their masks, 8 bytes a token; advantages, 4 bytes a sequence; how many tokens count;
    log-probabilities of the reference and of the model itself, 4 bytes a token of a completion.
    """
    if recipe.objective != "grpo":
        return ()
    sequences, completion = recipe.batch * recipe.steps_of_generation, recipe.completion
    prompt = recipe.length - completion
    own = recipe.training.scores_own_completions(recipe.training.gradient_accumulation_steps)
    scores = int(own) + int(recipe.reference != "none" and recipe.scores_by_reference)
    tensors_bytes = (
        *(_IDS_BYTES * sequences * tokens for tokens in (prompt, completion) for _ in ("ids", "mask")),
        _SCORE_BYTES * sequences,
        _IDS_BYTES,
        *(_SCORE_BYTES * sequences * completion for _ in range(scores)),
        # What the training loop made before it asked for a batch.
        *((_SCORE_BYTES, _IDS_BYTES) if phase == "forward" else ()),
    )
    return (
        Line(
            name="batch of the generation before" if phase == "forward" else "buffered batch of completions",
            bytes=sum(map(allocated, tensors_bytes)),
            cause="activations",
            alive_in=(phase,),
            formula=f"2·8·b·prompt + 2·8·b·completion + 4·b + 8 + {scores}·4·b·completion, b all that are generated",
            working=f"{sequences:,} sequences of {prompt:,} + {completion:,} tokens",
            source=_SOURCE,
        ),
    )
