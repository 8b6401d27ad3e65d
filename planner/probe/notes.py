"""What a reader of a measurement should know about it."""

from collections.abc import Iterator

from transformers import PretrainedConfig

from planner.probe.groupwise import is_group_wise
from planner.probe.options import Options
from planner.recipe import Recipe

# torch 2.13 sdp_utils.cpp, check_prefer_cudnn_attention: major versions 9 and 10.
_CUDNN_PREFERRED = frozenset({"9.0", "10.0", "10.3"})
# The names transformers' configs give to the number of experts.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def notes_of(
    recipe: Recipe, config: PretrainedConfig, options: Options, capability: str | None = None
) -> tuple[str, ...]:
    """Where this figure rests on something that was not run or not seen. `capability`: the card's, as in "9.0"."""
    return (*_notes(recipe, config, options), *_attention_notes(recipe, options, capability))


def _attention_notes(recipe: Recipe, options: Options, capability: str | None) -> Iterator[str]:
    training = recipe.training
    if options.instrument != "dry-run" or capability is None:
        return
    if training.attn_implementation == "flash_attention_2":
        yield "torch's flash kernel stood in for the flash_attn package"
    elif training.sdpa_kernel == "cudnn":
        yield "flash and mem-efficient attention stood in for cuDNN's, whose backward workspace is not known"
    elif training.sdpa_kernel == "auto" and training.attn_implementation != "eager" and capability in _CUDNN_PREFERRED:
        yield (
            "torch prefers cuDNN's attention on this card where cuDNN is newer than 9.15.0; flash and mem-efficient "
            "attention, which keep the same, stood in, and its backward workspace is not known"
        )


def _notes(recipe: Recipe, config: PretrainedConfig, options: Options) -> Iterator[str]:
    text = config.get_text_config()
    if options.weights == "synthetic" and any((getattr(text, name, None) or 0) > 1 for name in _EXPERTS):
        yield "synthetic weights route tokens to experts by chance, real ones by content"
    if is_group_wise(recipe) and recipe.lora is not None and recipe.lora.target_modules == "all-linear":
        yield 'peft finds no hqq layer by "all-linear"; the run named them, and so must a training script'
    if options.instrument != "dry-run":
        return
    if recipe.quantization is not None and recipe.quantization.load_in_8bit:
        yield "LLM.int8: no activation column was taken for an outlier"
    if is_group_wise(recipe):
        yield "hqq's solver played two iterations; it stops early by the weights' values"
        if options.follow != "cpu":
            yield "hqq's solver holds copies of one weight on the card while loading; they are not in the load peak"
    if recipe.loss != "full_logits" and options.follow != "cpu":
        yield "Triton launches of TRL and Liger were skipped; the buffers around them are real"
    if recipe.training.optim.startswith("paged_"):
        yield "paged optimizer states of 100,000 elements and more are managed memory, which torch does not count"
