"""Token batches as the stack's collator hands them to the model."""

import torch

from planner.request.recipe import Recipe

# transformers' cross entropy leaves these labels out.
IGNORED_LABEL = -100


def make_batch(recipe: Recipe, vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Random tokens, their labels, and the attention mask where the stack's collator makes one."""
    shape = (recipe.batch, recipe.length)
    tokens = torch.randint(vocabulary, shape, device=device)
    batch = {"input_ids": tokens, "labels": tokens.clone()}
    padded = recipe.training.padded
    if padded or recipe.by_trainer:
        batch["attention_mask"] = torch.ones(shape, dtype=torch.long, device=device)
    if padded:
        for index, kept in enumerate(recipe.kept_tokens):
            batch["attention_mask"][index, kept:] = 0
            batch["labels"][index, kept:] = IGNORED_LABEL
    return batch
