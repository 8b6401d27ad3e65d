"""The memory in which gradients of whatever has one number per column are summed up, by the names of the columns."""

from collections.abc import Mapping
from itertools import product
from math import prod

from planner.families.parts import Decoder
from planner.gpu import Gpu, multiprocessors
from planner.memory import workspace
from planner.memory.fused import MOST_FUSED_TOKENS
from planner.memory.row_sums import Partial, partial_sums
from planner.request.recipe import Recipe
from planner.step.engine.ops import row_sums_of, semaphores_of

# Dimensions that a norm is repeated over, and its widths then; some kinds of layers have their own of these.
_HEADS = frozenset({"H", "K", "Hv", "Hm", "G", "L"})
_OF_HEADS = frozenset({"d", "dk", "dv", "dp", "P"})


def sums_rows(recipe: Recipe) -> bool:
    """Whether something is trained that has one number per column: biases, norms, DoRA's magnitudes, VeRA's vectors."""
    lora = recipe.lora
    if lora is None or lora.peft_type in {"VERA", "IA3"}:
        return True
    return lora.use_dora or bool(lora.modules_to_save) or lora.bias != "none"


def row_sums(sizes: Mapping[str, int], recipe: Recipe, gpu: Gpu) -> dict[str, int]:
    """What the gradients of weights that scale every token, or every head of it, are summed up in."""
    found, tokens, count = dict[str, int](), recipe.batch * recipe.length, multiprocessors(gpu)
    heads, widths = ([name for name in sizes if name.split(" of ")[0] in kinds] for kinds in (_HEADS, _OF_HEADS))
    per_head = product(heads, widths)
    matrices: list[tuple[tuple[str, ...], str]] = [((first,), width) for width in sizes for first in ("T", "s")]
    if recipe.lora and recipe.lora.peft_type == "VERA":
        sizes = {**sizes, "r": recipe.lora.r}
        matrices += [((first,), "r") for first in ("T", "s")]
    matrices += [(("T", several), width) for several, width in per_head]
    for (first, *per), width in matrices:
        rows = (tokens if first == "T" else recipe.length) * prod(sizes[name] for name in per)
        columns = sizes.get(width, 0)
        summed = partial_sums(rows, columns, count, gpu.compute_capability) if columns > 0 else Partial(0, 0)
        found[row_sums_of((first, *per), width)] = summed.elements
        found[semaphores_of((first, *per), width)] = summed.semaphores
    return found


def counts_multiprocessors(decoder: Decoder, recipe: Recipe) -> bool:
    """Whether cards of one compute capability may run other kernels, as one has more multiprocessors."""
    most = max({**decoder.sizes, **sizes}.get("H", 1) for sizes in decoder.kind_sizes)
    may_split = workspace.flash_may_split(recipe.batch, recipe.length, most)
    return may_split or recipe.tokens <= MOST_FUSED_TOKENS or sums_rows(recipe)
