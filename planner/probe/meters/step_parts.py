"""What the peak of a step was made of, by module: what the model holds all along, and what the step made meanwhile.

What is held is read off the model and its optimizer when the step begins; what is made, from torch's history of its
own allocator (torch.cuda.memory, `_record_memory_history`) with the line of Python that asked for each block. Recording
changes no allocation; one step's history costs a dry run some tenths of a second.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from planner.measurement import PeakPart
from planner.units import allocated

# More rows than a decoder has kinds of modules would only name crumbs.
MOST_PARTS = 12
BESIDE, BACKWARD, ELSEWHERE = "workspaces and tables of libraries", "the backward pass itself", "inside torch"
LOSS, BETWEEN = "logits and loss", "between the layers"
LARGER = "blocks larger than what was asked for"
_ENTRIES = 2_000_000
_WRAPPERS = frozenset({"base_model", "model", "language_model", "module", "_fsdp_wrapped_module"})
# Where the code of models lies; what is made there is some module's.
_OF_MODELS = "/transformers/models/"


@dataclass(slots=True)
class StepParts:
    """Watches one optimizer step; `parts` are there once it has ended."""

    parts: tuple[PeakPart, ...] = ()
    _held: Counter[str] = field(default_factory=Counter)
    _owners: Mapping[str, str] = field(default_factory=dict)

    def begin(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """The step begins."""
        self._held = _held_by(model, optimizer)
        self._held[BESIDE] = max(0, torch.cuda.memory_allocated() - self._held.total())
        self._owners = _owners_by_class(model)
        torch.cuda.memory._record_memory_history(
            "all", context="alloc", stacks="python", max_entries=_ENTRIES, clear_history=True
        )

    def end(self) -> None:
        """The step has ended: see what was there at its fullest moment."""
        traces: list[list[dict[str, Any]]] = torch.cuda.memory._snapshot()["device_traces"]
        torch.cuda.memory._record_memory_history(None)
        made: Counter[str] = Counter()
        for entry in _alive_at_the_peak(traces[torch.cuda.current_device()]):
            made[self._place(entry.get("frames") or ())] += allocated(entry["size"])
        self.parts = tuple(_rows(self._held, made))

    def beside(self, peak_bytes: int) -> tuple[PeakPart, ...]:
        """The parts, with what `peak_bytes` of torch's own counter has beyond them.

        torch counts whole blocks, its history what was asked of them: a block that is not worth splitting is larger.
        """
        larger_bytes = peak_bytes - sum(part.held_bytes + part.made_bytes for part in self.parts)
        if not self.parts or larger_bytes <= 0:
            return self.parts
        return (*self.parts, PeakPart(name=LARGER, held_bytes=0, made_bytes=larger_bytes))

    def _place(self, frames: Iterable[Mapping[str, Any]]) -> str:
        """The module of the model whose code asked, innermost first. autograd's own kernels stand in no Python."""
        outside_torch = [frame for frame in frames if "/torch/" not in frame["filename"]]
        for frame in outside_torch:
            if _OF_MODELS in frame["filename"]:
                name = _class_at(frame["filename"], frame["line"])
                if name in self._owners:
                    return self._owners[name]
        return ELSEWHERE if outside_torch else BACKWARD


def _rows(held: Counter[str], made: Counter[str]) -> Iterator[PeakPart]:
    """The largest first; crumbs are one row."""
    whole = held + made
    large = [name for name, size_bytes in whole.most_common(MOST_PARTS) if size_bytes * 1000 >= whole.total()]
    for name in large:
        yield PeakPart(name=name, held_bytes=held[name], made_bytes=made[name])
    if rest := sorted(whole.keys() - set(large)):
        held_bytes, made_bytes = sum(held[name] for name in rest), sum(made[name] for name in rest)
        yield PeakPart(name=f"{len(rest)} more", held_bytes=held_bytes, made_bytes=made_bytes)


def _alive_at_the_peak(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of the step that were there when it held most."""
    live_bytes = most_bytes = end = 0
    sizes: dict[int, int] = {}
    for index, entry in enumerate(trace):
        if entry["action"] == "alloc":
            sizes[entry["addr"]] = allocated(entry["size"])
            live_bytes += sizes[entry["addr"]]
        elif entry["action"] == "free_requested":
            # Blocks from before the step fall too: they are counted as held, and their leaving makes room.
            live_bytes -= sizes.pop(entry["addr"], allocated(entry["size"]))
        if live_bytes > most_bytes:
            most_bytes, end = live_bytes, index + 1
    alive: dict[int, dict[str, Any]] = {}
    for entry in trace[:end]:
        if entry["action"] == "alloc":
            alive[entry["addr"]] = entry
        elif entry["action"] == "free_requested":
            alive.pop(entry["addr"], None)
    return list(alive.values())


def _held_by(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Counter[str]:
    """Bytes on the card of parameters, their constants, buffers and optimizer states, by module."""
    held: Counter[str] = Counter()
    seen: set[int] = set()
    for name, tensor in _tensors_of(model, optimizer):
        local = getattr(tensor, "_local_tensor", tensor)  # a DTensor's shard
        if local.device.type != "cuda" or getattr(tensor, "is_paged", False):
            continue
        storage = local.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            held[_short(name)] += allocated(storage.nbytes())
    return held


def _tensors_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    names: dict[torch.Tensor, str] = {}
    for name, weight in model.named_parameters():
        names[weight] = name
        yield name, weight
        for constant in _constants(getattr(weight, "quant_state", None)):
            yield name, constant
    yield from model.named_buffers()
    for parameter, state in optimizer.state.items():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                yield names.get(parameter, BESIDE), value


def _constants(state: Any) -> Iterator[torch.Tensor]:
    """What bitsandbytes keeps beside a quantized weight, nested where constants are quantized once more."""
    for value in vars(state).values() if hasattr(state, "__dict__") else ():
        if isinstance(value, torch.Tensor):
            yield value
        elif hasattr(value, "absmax"):
            yield from _constants(value)


def _owners_by_class(model: torch.nn.Module) -> dict[str, str]:
    """The module that each class of the model's code is, where all of its kind have one name.

    The whole model's own code makes logits and loss.
    """
    names: dict[str, set[str]] = {}
    for name, module in model.named_modules():
        if type(module).__module__.startswith("transformers."):
            has_head = hasattr(module, "get_output_embeddings") and module.get_output_embeddings() is not None
            short = LOSS if has_head else _short(name)
            names.setdefault(type(module).__name__, set()).add(BETWEEN if short in {"", "model"} else short)
    return {kind: min(places) for kind, places in names.items() if len(places) == 1}


def _short(name: str) -> str:
    """`base_model.model.model.layers.7.mlp.up_proj.base_layer.weight` is `layers.*.mlp`: layers are alike."""
    parts = ["*" if part.isdigit() else part for part in name.split(".")]
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts = parts[1:]
    return ".".join(parts[: parts.index("*") + 2] if "*" in parts else parts[:1])


@cache
def _classes_of(filename: str) -> tuple[tuple[int, int, str], ...]:
    """(first line, last line, name) of each class of a file, in order."""
    try:
        tree = ast.parse(Path(filename).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ()
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return tuple(sorted((node.lineno, node.end_lineno or node.lineno, node.name) for node in classes))


def _class_at(filename: str, line: int) -> str:
    """The innermost class whose body holds `line`; empty outside of all."""
    return next((name for start, end, name in reversed(_classes_of(filename)) if start <= line <= end), "")
