"""Ray's list of nodes as workers, and a worker as the resources a job asks for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app.engines.base import Kind, Worker

# Ray names a card by family alone (`A100` for 40 and 80 GB alike). A node that was started with this label,
# `ray start --labels fitproof-card=a100-80gb-sxm`, says which one it is.
CARD_LABEL = "fitproof-card"
_TYPE_PREFIX = "accelerator_type:"
_ANY = "any"
_PROCESSOR = "cpu"


def cluster_workers(
    nodes: Iterable[Mapping[str, Any]], cpu_slots: int, card_of: Callable[[str], str | None]
) -> tuple[Worker, ...]:
    """One worker per GPU type and label, with the cards of all living nodes; `cpu_slots` for dry runs if asked for."""
    slots: dict[tuple[str, str], int] = {}
    processors = 0
    for node in nodes:
        if node.get("state") != "ALIVE":
            continue
        resources = node.get("resources_total") or {}
        if gpus := int(resources.get("GPU", 0)):
            kind = next((key.removeprefix(_TYPE_PREFIX) for key in resources if key.startswith(_TYPE_PREFIX)), _ANY)
            label = (node.get("labels") or {}).get(CARD_LABEL, "")
            slots[kind, label] = slots.get((kind, label), 0) + gpus
        processors += int(resources.get("CPU", 0))
    cards = tuple(_gpu_worker(kind, label, count, card_of) for (kind, label), count in sorted(slots.items()))
    room = min(cpu_slots, processors)
    processor = Worker(id=f"ray:{_PROCESSOR}", engine="ray", kind="cpu", name="the cluster's processors", slots=room)
    return (*cards, processor) if room else cards


def resources_of(worker: str, kind: Kind) -> dict[str, Any]:
    """What to ask Ray for, from the id of a worker above."""
    if kind == "cpu":
        return {"entrypoint_num_cpus": 1}
    name, _, label = worker.removeprefix("ray:").partition("/")
    wanted: dict[str, Any] = {"entrypoint_num_gpus": 1}
    if name != _ANY:
        # The smallest amount Ray counts: the resource is a mark that all cards of the node share.
        wanted["entrypoint_resources"] = {f"{_TYPE_PREFIX}{name}": 0.001}
    if label:
        wanted["entrypoint_label_selector"] = {CARD_LABEL: label}
    return wanted


def _gpu_worker(kind: str, label: str, count: int, card_of: Callable[[str], str | None]) -> Worker:
    return Worker(
        id=f"ray:{kind}/{label}" if label else f"ray:{kind}",
        engine="ray",
        kind="gpu",
        name="a card Ray has no name for" if kind == _ANY else kind,
        slots=count,
        card=label or card_of(kind),
    )
