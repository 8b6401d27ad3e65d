"""The catalogues' rows as plain documents, for the API and the CLI's --json."""

from typing import Any

from planner.catalog import Card, ModelRow, search_gpus, search_models
from planner.model.model import config_facts


def model_list(query: str, limit: int) -> dict[str, Any]:
    """Models that match `query`, at most `limit` of them, and how many match in all."""
    rows = search_models(query)
    return {"items": [model_item(row) for row in rows[:limit]], "total": len(rows)}


def gpu_list(query: str, limit: int) -> dict[str, Any]:
    """Cards that match `query`, at most `limit` of them, and how many match in all."""
    cards = search_gpus(query)
    return {"items": [gpu_item(card) for card in cards[:limit]], "total": len(cards)}


def model_item(row: ModelRow) -> dict[str, Any]:
    """One model with its facts and their sources."""
    return {
        "id": row.id,
        "aliases": list(row.aliases),
        "model_type": row.model_type,
        "architecture": row.architecture,
        "params": row.params,
        "licence": row.licence,
        "gated": row.gated,
        "facts": config_facts(row.config),
        "unsourced": list(row.unsourced),
        "note": row.note,
        "sources": list(row.sources),
        "checked": row.checked.isoformat(),
    }


def gpu_item(card: Card) -> dict[str, Any]:
    """One card with its facts and their sources."""
    row, gpu = card.row, card.gpu
    return {
        "id": row.id,
        "name": row.name,
        "aliases": list(row.other_names),
        "vendor": row.vendor,
        "form": row.form,
        "nominal_gb": row.nominal_gb,
        "usable_bytes": gpu.usable_bytes if gpu else None,
        "usable_evidence": gpu.usable_evidence if gpu else None,
        "usable_source": gpu.usable_source if gpu else None,
        "compute_capability": row.compute_capability,
        "native_bfloat16": gpu.native_bfloat16 if gpu else None,
        "bitsandbytes_4bit": row.bitsandbytes_4bit,
        "note": row.note,
        "sources": list(row.sources),
        "checked": row.checked.isoformat(),
    }
