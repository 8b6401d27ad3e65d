"""`optim_args` and `optim_target_modules`, which GaLore and APOLLO read; other optimizers are planned without them."""

from collections.abc import Mapping
from typing import Any

from app.imports.effects import PROJECTED, Effect
from app.imports.rules import Reading
from planner.request.optimizer_names import KEPT

_ARGUMENTS = Effect("may change what the optimizer keeps; planned with its defaults", saves=True)


def read_low_rank(reading: Reading) -> None:
    """Once the optimizer's name is read."""
    kept: Any = KEPT
    projects = getattr(kept.get(reading.get("training.optim")), "low_rank", False)
    for key, effect in (("optim_args", _ARGUMENTS), ("optim_target_modules", PROJECTED)):
        value = reading.config.get(key)
        if not value:
            continue
        if projects:
            reading.use(key, f"training.{key}", dict(value) if isinstance(value, Mapping) else value)
        else:
            reading.leave_out(key, effect)
