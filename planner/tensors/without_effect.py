"""What an adapter's configuration names that is nowhere in the model: PEFT passes over it in silence.

Source: peft 0.21.2, tuners/tuners_utils.py check_target_module_exists (a layer is compared with those named, and no
number is looked for) and utils/other.py get_pattern_key.
"""

from planner.request.lora import Lora
from planner.request.validation.patterns import suffixes_of
from planner.tensors.inventory import Census
from planner.tensors.modules import is_module, with_tied_head
from planner.tensors.peft_matching import excluder, pattern_matches
from planner.tensors.targets import adapted_weights, indexed_names, translated_names


def unmatched_targets(census: Census, model_type: str, lora: Lora) -> tuple[str, ...]:
    """Entries of the target list that name nothing. PEFT passes over them in silence as long as one other matches."""
    if isinstance(lora.target_modules, str):
        return ()
    old_names = translated_names(model_type)
    modules = (group for group in with_tied_head(census) if is_module(group))
    named = {suffix for group in modules for name in indexed_names(group) for suffix in suffixes_of(name)}
    return tuple(
        target for target in lora.target_modules if target.rsplit(".", 1)[-1] not in old_names and target not in named
    )


def unmatched_layers(census: Census, model_type: str, lora: Lora) -> tuple[int, ...]:
    """Numbers in `layers_to_transform` of layers without an adapter: past the last, or of another kind."""
    if lora.layers_to_transform is None:
        return ()
    chosen = lora.layers_to_transform
    adapted = {layer for weight in adapted_weights(census, model_type, lora) for layer in weight.layers}
    return tuple(layer for layer in ((chosen,) if isinstance(chosen, int) else chosen) if layer not in adapted)


def unmatched_patterns(census: Census, model_type: str, lora: Lora) -> tuple[str, ...]:
    """Patterns of `rank_pattern` that no adapted module's name matches."""
    if not lora.rank_pattern:
        return ()
    names = [
        weight.name.removesuffix(".weight").replace("*", str(layer), 1).replace("*", "0")
        for weight in adapted_weights(census, model_type, lora)
        for layer in weight.layers or (0,)
    ]
    return tuple(pattern for pattern, _ in lora.rank_pattern if not any(map(pattern_matches(pattern), names)))


def unmatched_exclusions(census: Census, lora: Lora) -> tuple[str, ...]:
    """Entries of `exclude_modules` that are no module's name."""
    excluded = lora.exclude_modules or ()
    names = [name for group in with_tied_head(census) if is_module(group) for name in indexed_names(group)]
    entries = (excluded,) if isinstance(excluded, str) else excluded
    return tuple(
        entry for entry in entries if not any(map(excluder(entry if isinstance(excluded, str) else (entry,)), names))
    )
