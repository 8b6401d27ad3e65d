"""Inference questions, whichever door they came through."""

import asyncio
from collections.abc import Sequence
from typing import Any

from app.planning import Planning
from planner.errors import FieldProblem
from planner.serving.answer import Served, served

# What people call a storage of the weights, in the document's words.
QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "int8": {"load_in_8bit": True},
    **{
        kind: {"load_in_4bit": True, "bnb_4bit_quant_type": kind, "bnb_4bit_compute_dtype": "bfloat16"}
        for kind in ("nf4", "fp4")
    },
}


def cache_config(text: str) -> dict[str, Any]:
    """`backend=hqq,nbits=2` as GenerationConfig's `cache_config`: whole numbers where they are.

    Raises:
        ValueError: a part is no name with a value.
    """
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            msg = f"write names with values, such as backend=hqq,nbits=2; got {part}"
            raise ValueError(msg)
        found[name] = int(value) if value.lstrip("-").isdecimal() else value
    return found


async def answer_inference(planning: Planning, data: object) -> dict[str, Any]:
    """Read the document of an inference question and answer it as the API writes it.

    Raises:
        FitproofError: as `serve` does.
    """
    found = await serve(planning, data)
    return await asyncio.to_thread(found.to_dict)


async def serve(planning: Planning, data: object, unread: Sequence[FieldProblem] = ()) -> Served:
    """Read the document of an inference question and answer it; `unread` as of `Planning.read`.

    Raises:
        InvalidRequestError: names every bad field at once.
        FitproofError: the names lead nowhere, or no formula knows this model or this way of running it.
    """
    asked = planning.read_inference(data, unread)
    model, gpu = await planning.subjects(asked)
    return await asyncio.to_thread(served, asked, model=model, gpu=gpu)
