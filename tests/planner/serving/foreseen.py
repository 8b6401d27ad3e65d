"""The recorded runs of `generate`, and the formula's answer to the same questions."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from planner.catalog import resolve_gpu
from planner.model.model import resolve_model
from planner.serving.request import Inference
from planner.serving.transformers_generate import Generated, generated
from tests.planner.serving.record import FILE

RECORDS: Mapping[str, dict[str, Any]] = {
    row["name"]: row for row in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
}


@cache
def foreseen(name: str) -> Generated:
    """What the formulas say of one recorded question."""
    row = {key: value for key, value in RECORDS[name].items() if key not in {"name", "peaks"}}
    asked = Inference.parse(row)
    return generated(asked, resolve_model(asked.model), resolve_gpu(asked.gpu))
