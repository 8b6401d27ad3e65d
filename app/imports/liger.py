"""Liger's kernels one by one, as trainers' files name them."""

from collections.abc import Mapping

from app.imports.effects import Effect
from app.imports.rules import Reading
from planner.request.training_options import LigerKernels

_KEY, _FUSED = "liger_kernel_config", "fused_linear_cross_entropy"
_OTHERS = Effect("names kernels that are not planned here; planned without them", saves=True)
# Axolotl's switches (integrations/liger/args.py) and transformers' names of the same.
AXOLOTL = {"liger_rope": "rope", "liger_rms_norm": "rms_norm", "liger_glu_activation": "swiglu"}


def put_transformers_kernels(reading: Reading) -> bool:
    """Read `liger_kernel_config`; returns whether Liger's fused loss is among its kernels, as it is by default."""
    asked = reading.config.get(_KEY)
    if asked is None:
        return True
    if not isinstance(asked, Mapping) or not all(isinstance(on, bool) for on in asked.values()):
        reading.contradict(_KEY, "must be a mapping of kernels to true or false, such as rope: false")
        return True
    if reading.get("training.objective") not in (None, "sft"):
        reading.leave_out(_KEY, _OTHERS)
        return True
    known = {name: on for name, on in asked.items() if name in LigerKernels.model_fields}
    if asked.keys() - known.keys() - {_FUSED}:
        reading.leave_out(_KEY, _OTHERS)
    reading.use(_KEY, f"training.{_KEY}", known)
    return bool(asked.get(_FUSED, True))


def put_axolotl_kernels(reading: Reading) -> None:
    """Liger's kernels beside any loss; all of them with its own are its defaults."""
    on = [key for key in AXOLOTL if reading.on(key)]
    fused = reading.get("training.loss") == "liger"
    are_defaults = len(on) == (len(AXOLOTL) if fused else 0)
    kernels = None if are_defaults else {name: key in on for key, name in AXOLOTL.items()}
    for key in on:
        reading.use(key, "training.loss" if are_defaults else f"training.{_KEY}", kernels or "liger")
    if kernels:
        reading.put(f"training.{_KEY}", kernels)
