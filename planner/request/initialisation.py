"""`init_lora_weights`: how PEFT makes an adapter's first values, and which of its ways can be planned.

Source: peft 0.21.2, tuners/lora/layer.py update_layer.
"""

import re

# Values written into the matrices as they are made.
_DRAWN = frozenset({"gaussian", "orthogonal"})
_DECOMPOSED = re.compile(r"pissa(?:_niter_[1-9]\d{0,2})?|olora")
_WHY_NOT = {
    "loftq": "quantizes and decomposes every weight before training",
    "eva": "runs the model over data before the adapters are made",
    "corda": "runs the model over data before the adapters are made",
    "lora_ga": "runs the model over data before the adapters are made",
    "mica": "trains one of each adapter's matrices alone",
}


def checked_initialisation(value: bool | str) -> bool | str:
    """Return a value whose memory is known.

    Raises:
        ValueError: no formula plans it, or PEFT does not know it; says why and what to write.
    """
    if isinstance(value, bool) or value in _DRAWN or _DECOMPOSED.fullmatch(value):
        return value
    if value in _WHY_NOT:
        msg = f"{value} is not planned: it {_WHY_NOT[value]}. Once that is done, the run is that of true"
        raise ValueError(msg)
    msg = "write true, false, gaussian, orthogonal, pissa, pissa_niter_16 or olora"
    raise ValueError(msg)


def needs_float_weights(value: bool | str) -> bool:
    """Whether PEFT fails on quantized weights: pissa_init asks for float ones, orthogonal_init gives the matrices the
    weights' own dtype, which is then one of whole numbers.
    """
    return isinstance(value, str) and (value.startswith("pissa") or value == "orthogonal")


def decomposes(value: bool | str) -> bool:
    """Whether the first values come of the weights."""
    return isinstance(value, str) and _DECOMPOSED.fullmatch(value) is not None
