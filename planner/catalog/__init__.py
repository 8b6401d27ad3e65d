"""The catalogues: sourced, dated rows of models and cards, and the ways to find one."""

from functools import lru_cache

from planner.catalog.gpu_rows import Card, GpuRow, custom_gpu, gpu_catalog, unplannable
from planner.catalog.model_rows import ModelRow, model_catalog
from planner.gpu import Gpu
from planner.request.schema import CustomGpu

__all__ = ["Card", "GpuRow", "ModelRow", "custom_gpu", "find_gpu", "resolve_gpu", "search_gpus", "search_models"]


@lru_cache(maxsize=512)
def find_gpu(name: str) -> Gpu:
    """Find a card of the catalogue to plan on, by id, alias ("4090") or the driver's name.

    Raises:
        UnknownGpuError: no such card (the nearest are suggested), or no source states its memory.
    """
    card = gpu_catalog().find(name)
    if card.gpu is None:
        raise unplannable(card.row)
    return card.gpu


def resolve_gpu(gpu: str | CustomGpu) -> Gpu:
    """Settle a request's `gpu`: a card of the catalogue, or the caller's own figures.

    Raises:
        UnknownGpuError: see `find_gpu`.
    """
    return custom_gpu(gpu) if isinstance(gpu, CustomGpu) else find_gpu(gpu)


def search_models(query: str = "") -> list[ModelRow]:
    """Models that hold every word of `query`, best first; the whole catalogue for an empty query."""
    return model_catalog().search(query)


def search_gpus(query: str = "") -> list[Card]:
    """Cards that hold every word of `query`, best first; the whole catalogue for an empty query."""
    return gpu_catalog().search(query)
