"""The allocator's settings, as a shell or a script hands them to torch: PYTORCH_CUDA_ALLOC_CONF.

Source: torch 2.14 c10/core/AllocatorConfig.h; PYTORCH_ALLOC_CONF is its newer name.
"""

from app.imports.effects import Effect
from app.imports.rules import Reading

VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# Settings that no byte depends on as long as nothing is short of memory.
_HARMLESS = {"pinned_use_cuda_host_register", "pinned_num_register_threads", "pinned_use_background_threads"}
_OTHER = Effect("changes how torch's allocator cuts blocks; planned with its defaults", "with the allocator's defaults")


def put_allocator(reading: Reading) -> None:
    """Plan expandable segments; name what else moves memory."""
    for key in VARIABLES:
        value = reading.config.get(key)
        if not isinstance(value, str):
            continue
        reading.planned_after_all({key})
        parts = dict(part.partition(":")[::2] for part in value.replace(" ", "").split(",") if part)
        expandable = parts.pop("expandable_segments", None)
        if expandable is not None:
            reading.use(key, "training.expandable_segments", expandable.lower() == "true")
        if parts.pop("backend", "native") != "native" or parts.keys() - _HARMLESS:
            reading.leave_out(key, _OTHER)
