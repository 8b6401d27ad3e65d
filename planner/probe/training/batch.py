"""Token batches as the stack's collator hands them to the model."""

import torch

from planner.request.recipe import Recipe

# transformers' cross entropy leaves these labels out.
IGNORED_LABEL = -100


def make_batch(recipe: Recipe, vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Random tokens, their labels, and the attention mask where the stack's collator makes one."""
    if recipe.objective != "sft":
        return _preference_batch(recipe, vocabulary, device)
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


def _preference_batch(recipe: Recipe, vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    """As trl 1.16 `DataCollatorForPreference`: the chosen sequences, then the rejected ones.

    Every token counts as one of a completion, the most that can be scored.
    """
    shape = (recipe.batch, recipe.length)
    tokens = torch.randint(vocabulary, shape, device=device)
    attended = torch.ones(shape, dtype=torch.long, device=device)
    for index, kept in enumerate(recipe.kept_tokens):
        if kept < recipe.length:
            attended[index, kept:] = 0
    batch = {"input_ids": tokens, "attention_mask": attended, "completion_mask": attended.clone()}
    if recipe.training.precompute_ref_log_probs:
        pairs = (recipe.training.per_device_train_batch_size,)
        batch |= {f"ref_{name}_logps": torch.zeros(pairs, device=device) for name in ("chosen", "rejected")}
    return batch
