"""What a reader of a measurement should know about it."""

from collections.abc import Iterator

from transformers import PretrainedConfig

from planner.probe.options import Options
from planner.probe.training.hqq import is_group_wise
from planner.request.recipe import Recipe

# The names transformers' configs give to the number of experts.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def notes_of(recipe: Recipe, config: PretrainedConfig, options: Options) -> tuple[str, ...]:
    """Where this figure rests on something that was not run or not seen."""
    return tuple(_notes(recipe, config, options))


def _notes(recipe: Recipe, config: PretrainedConfig, options: Options) -> Iterator[str]:
    text = config.get_text_config()
    dry = options.instrument == "dry-run"
    if any((getattr(text, name, None) or 0) > 1 for name in _EXPERTS):
        if dry:
            yield f"routers were made up, {options.routing}: {_ROUTED[options.routing]}"
        elif options.weights == "synthetic":
            yield "synthetic weights route tokens to experts by chance, real ones by content"
    if is_group_wise(recipe) and recipe.lora is not None and recipe.lora.target_modules == "all-linear":
        yield 'peft finds no hqq layer by "all-linear"; the run named them, and so must a training script'
    if dry and recipe.quantization is not None and recipe.quantization.load_in_8bit:
        yield "LLM.int8: no activation column was taken for an outlier"
    if options.instrument != "cpu" and recipe.training.optim.startswith("paged_"):
        yield "paged optimizer states of 100,000 elements and more are managed memory, which torch does not count"


_ROUTED = {
    "even": "real ones route by content",
    "skewed": "every token to the same experts, the worst case",
}
