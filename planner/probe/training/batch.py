"""Token batches as the stack's collator hands them to the model."""

from typing import Any

import torch

from planner.request.objective import BY_ALL_LOGITS
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
    if recipe.training.packing:
        return batch | _borders(recipe, device)
    padded = recipe.training.padded
    if padded or recipe.by_trainer:
        batch["attention_mask"] = torch.ones(shape, dtype=torch.long, device=device)
    if padded:
        for index, kept in enumerate(recipe.kept_tokens):
            batch["attention_mask"][index, kept:] = 0
            batch["labels"][index, kept:] = IGNORED_LABEL
    return batch


def _borders(recipe: Recipe, device: torch.device) -> dict[str, torch.Tensor]:
    """Where documents of equal length begin in a packed row, as trl 1.16's DataCollatorForLanguageModeling says it."""
    parts = torch.tensor_split(torch.arange(recipe.length), recipe.documents)
    lengths = torch.tensor([len(part) for part in parts])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
    positions = torch.cat([part - part[0] for part in parts])
    numbers = torch.repeat_interleave(torch.arange(len(parts), dtype=torch.int32), lengths)
    longest: Any = int(lengths.max())
    return {
        "position_ids": positions[None].to(device),
        "cu_seq_lens_q": starts.to(device), "cu_seq_lens_k": starts.to(device),
        "max_length_q": longest, "max_length_k": longest,
        "seq_idx": numbers[None].to(device),
    }  # fmt: skip


def _preference_batch(recipe: Recipe, vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    """As trl 1.16's collators for preferences hand it over. Every token counts as one of a completion: the most that
    can be scored.

    DPO: the chosen sequences, then the rejected ones. KTO: sequences, half of them desirable, and once more with the
    completions of others.
    """
    if recipe.objective == "grpo":
        return {}  # prompts are words until they are generated from
    if recipe.objective in BY_ALL_LOGITS:
        return _apart(_scored(recipe, vocabulary, device), recipe.batch // 2)
    batch = _scored(recipe, vocabulary, device)
    if recipe.objective == "reward":
        del batch["completion_mask"]
        return batch
    scores = ["ref_chosen_logps", "ref_rejected_logps"]
    if recipe.objective == "kto":
        batch |= {f"KL_{name}": tensor for name, tensor in _scored(recipe, vocabulary, device).items()}
        batch["label"] = torch.arange(recipe.batch, device=device) % 2 == 0
        scores = ["ref_logps", "ref_KL_logps"]
    if recipe.training.precompute_ref_log_probs:
        examples = (recipe.training.per_device_train_batch_size,)
        batch |= {name: torch.zeros(examples, device=device) for name in scores}
    return batch


def _apart(batch: dict[str, torch.Tensor], pairs: int) -> dict[str, torch.Tensor]:
    """Chosen and rejected in tensors of their own, with labels, as DPODataCollatorWithPadding has them."""
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORED_LABEL)
    whole = {**batch, "labels": labels}
    return {
        f"{side}_{name}": tensor[part].clone()
        for side, part in (("chosen", slice(pairs)), ("rejected", slice(pairs, None)))
        for name, tensor in whole.items()
    }


def _scored(recipe: Recipe, vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    shape = (recipe.batch, recipe.length)
    attended = torch.ones(shape, dtype=torch.long, device=device)
    for index, kept in enumerate(recipe.kept_tokens):
        if kept < recipe.length:
            attended[index, kept:] = 0
    return {
        "input_ids": torch.randint(vocabulary, shape, device=device),
        "attention_mask": attended,
        "completion_mask": attended.clone(),
    }
