"""How torch's CUDA allocator is told what the request says, before torch wakes up and reads it."""

from collections.abc import MutableMapping

# The second is the older name of the first; torch 2.9 and later read either, so both say the same.
VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_EXPANDABLE = "expandable_segments"


def settle_allocator(environment: MutableMapping[str, str], *, expandable: bool) -> None:
    """Set `expandable_segments` as the request has it; whatever else the environment says stays."""
    said = allocator_settings(environment)
    if not expandable and _EXPANDABLE not in said:
        return
    kept = [part for part in said.split(",") if part and not part.strip().startswith(_EXPANDABLE)]
    settings = ",".join([*kept, f"{_EXPANDABLE}:{expandable}"])
    for name in VARIABLES:
        environment[name] = settings


def allocator_settings(environment: MutableMapping[str, str]) -> str:
    """What the environment tells the allocator; empty for the defaults."""
    return next((environment[name] for name in VARIABLES if environment.get(name)), "")
