"""Token batches as the stack's collator hands them to the model."""

import torch

from planner.recipe import Recipe

# transformers' cross entropy leaves these labels out.
IGNORED_LABEL = -100

# Stacks whose collator adds an attention mask; a hand-written loop of exact-length tokens passes none.
_COLLATED = frozenset({"trainer", "kbit", "trl"})


def make_batch(recipe: Recipe, vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Random tokens, their labels, and the attention mask where the stack's collator makes one."""
    shape = (recipe.batch, recipe.length)
    tokens = torch.randint(vocabulary, shape, device=device)
    batch = {"input_ids": tokens, "labels": tokens.clone()}
    padded = recipe.training.padded
    if padded or recipe.stack_name in _COLLATED:
        batch["attention_mask"] = torch.ones(shape, dtype=torch.long, device=device)
    if padded:
        for index, kept in enumerate(recipe.kept_tokens):
            batch["attention_mask"][index, kept:] = 0
            batch["labels"][index, kept:] = IGNORED_LABEL
    return batch
