"""How PEFT matches module names with targets: peft 0.21.2, tuners/tuners_utils.py (check_target_module_exists)."""

import re
from collections.abc import Callable
from functools import lru_cache

from planner.request.lora import Lora
from planner.request.validation.patterns import Matcher, suffixes_of

# The inner projection of a wrapper (models/gemma4/modeling_gemma4.py, Gemma4ClippableLinear).
WRAPPED = ".linear"
# The first number of a path is its layer's, a later one an expert's.
_ANY_LAYER = re.compile(r".*?\.[^.]*\.(\d+)\.")
# Patterns of ranks may follow any start of a name (utils/other.py, get_pattern_key).
_ANY_START = r"(?:.*\.)?"


def matcher(targets: str | tuple[str, ...], *, tower_alone: bool = False) -> Callable[[str], bool]:
    """Whether PEFT takes a module for a target: a list by the ends of names, a pattern by the whole of one."""
    if isinstance(targets, str):
        pattern = Matcher(targets)
        return lambda name: any(pattern.matches(spelling) for spelling in _spellings(name, tower_alone))
    names = frozenset(targets)
    return lambda name: any(suffix in names for suffix in suffixes_of(name))


def excluder(excluded: str | tuple[str, ...] | None) -> Callable[[str], bool]:
    """Whether `exclude_modules` takes a module out: a pattern by the whole of its name, a list by its end."""
    return matcher(excluded) if excluded else lambda _: False


def layer_chooser(lora: Lora) -> Callable[[str], bool]:
    """Whether `layers_to_transform` takes a module: by the number behind the layers' name, or the first in its path."""
    chosen = lora.layers_to_transform
    if chosen is None or chosen == ():
        return lambda _: True
    numbers = {chosen} if isinstance(chosen, int) else set(chosen)
    names = lora.layers_pattern or ()
    patterns = [
        re.compile(rf"(?:^|.*?\.){re.escape(name)}\.(\d+)\.") for name in ([names] if isinstance(names, str) else names)
    ] or [_ANY_LAYER]

    def takes(name: str) -> bool:
        match = next(filter(None, (pattern.match(name) for pattern in patterns)), None)
        return match is not None and int(match[1]) in numbers

    return takes


@lru_cache(maxsize=256)
def ranks(lora: Lora) -> Callable[[str], int]:
    """The rank of a module's adapter: the first pattern of `rank_pattern` that ends its name, else the common one."""
    own = [(pattern_matches(pattern), rank) for pattern, rank in lora.rank_pattern]
    return lambda name: next((rank for matches, rank in own if matches(name)), lora.r)


def pattern_matches(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern of `rank_pattern` takes a module: by the end of its name."""
    return Matcher(f"{_ANY_START}(?:{pattern})").matches


def _spellings(name: str, tower_alone: bool) -> tuple[str, ...]:
    """A module's name; where only a text tower is known, also as the model around it has it, now and before 4.52."""
    inner = name.removeprefix("model.")
    return (name, f"model.language_model.{inner}", f"language_model.model.{inner}") if tower_alone else (name,)


def wrappers(names: list[str]) -> list[str]:
    """Modules that are no nn.Linear and hold one (models/gemma4, Gemma4ClippableLinear), as PEFT finds them first."""
    return [name.removesuffix(WRAPPED) for name in names if name.endswith(WRAPPED)]
