"""What a request says beyond the controls, so that every request has an address: paths and values, as JSON."""

import json
from collections.abc import Mapping
from typing import Any

from app import strictjson
from planner.request.schema import Request

NAME = "also"
_SECTIONS = frozenset({"quantization", "lora", "training", "stack", "parallelism_config"})


def differences(document: Mapping[str, Any], of_controls: Mapping[str, Any]) -> str:
    """Write down where `document` differs from `of_controls`, what the controls say; empty where it does not."""
    differing: dict[str, Any] = {}
    for section, wanted in document.items():
        got = of_controls.get(section)
        if section in _SECTIONS and isinstance(wanted, Mapping) and isinstance(got, Mapping):
            differing |= {f"{section}.{key}": value for key, value in wanted.items() if got.get(key) != value}
        elif wanted != got:
            differing[section] = wanted
    return json.dumps(differing, separators=(",", ":")) if differing else ""


def read_differences(text: str) -> dict[tuple[str, ...], Any]:
    """Read it back.

    Raises:
        ValueError: it is no object of paths and values.
    """
    msg = 'write an object of paths and values, such as {"lora.r": 8}'
    try:
        differing = strictjson.loads(text.encode("utf-8", "surrogatepass"))
    except strictjson.InvalidJsonError:
        raise ValueError(msg) from None
    if not isinstance(differing, dict):
        raise ValueError(msg)
    paths = {tuple(path.split(".")): value for path, value in differing.items()}
    known = all(path[0] in Request.model_fields and len(path) <= 2 for path in paths)
    if not known:
        raise ValueError(msg)
    return paths
