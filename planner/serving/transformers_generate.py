"""transformers' `generate` on one card, byte by byte: the prompt read at once, then one token after another.

Weights stand throughout. While the prompt is read, each layer leaves its keys and values and the worst moment is in the
last layers or at the head. Of each later token a layer's keys, then its values, are made anew beside the old ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.allocator.load_phase import INSTALLED
from planner.answer.static_lines import loaded_model, standing_adapter_lines
from planner.gpu import Gpu
from planner.ledger import Ledger, Line
from planner.memory.runtime import slack_lines, workspace_bytes
from planner.memory.weights import weight_lines
from planner.model.model import Model
from planner.model.quantized_checkpoint import on_card
from planner.model.resolved_request import settled
from planner.request.recipe import Recipe
from planner.serving.request import Inference
from planner.step.attention.cache_quantizers import Quantizer
from planner.step.recorded import Known, generation_words, nearest
from planner.step.without_gradients.cache_moments import KeptCache
from planner.step.without_gradients.generation import Generation
from planner.tensors.tensor_storage import place

PHASES: tuple[str, str, str] = ("load", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class Generated:
    """Allocated bytes at the worst moment of loading, of the prompt and of the tokens after it, and their lines.

    `known`: what it is known by among the recorded runs.
    """

    lines: tuple[Line, ...]
    totals: Mapping[str, int]
    known: Known

    @property
    def peak(self) -> tuple[str, int]:
        """The worst phase and its bytes."""
        name = max(PHASES, key=self.totals.__getitem__)
        return name, self.totals[name]


def generated(asked: Inference, model: Model, gpu: Gpu) -> Generated:
    """What `generate` allocates for this question.

    Raises:
        UnknownArchitectureError: the formulas do not know this model.
        InvalidRequestError: the checkpoint's quantization is not planned, or the adapter does not match.
        NotImplementedError: this way of running the model has no formula.
    """
    decoder = model.known_decoder()
    recipe = on_card(asked.recipe(settled(asked.as_loaded(), model)), gpu)
    standing = standing_lines(model, recipe, gpu)
    made = Generation(decoder, recipe, gpu, asked.batch, asked.prompt, asked.context, kept=_kept(asked))
    known = generation_words(decoder, recipe, gpu, cache=cache_in_words(asked))
    lines = (line for line in (*standing, *made.lines(PHASES[1:])) if line.bytes)
    kept = nearest("generation", known).labelled(lines)
    totals = {name: sum(line.bytes for line in kept if name in line.alive_in) for name in PHASES}
    return Generated(kept, totals, known)


def standing_lines(model: Model, recipe: Recipe, gpu: Gpu) -> list[Line]:
    """Weights as they are loaded and used, an adapter beside them, the allocator's slack, one cuBLAS workspace."""
    loaded = loaded_model(model.census, recipe, INSTALLED)
    adapters = standing_adapter_lines(model, recipe)
    lines = [
        *weight_lines(place(model.census, recipe), recipe, adapters_bytes=0),
        *adapters,
        *slack_lines(loaded.loaded_slack_bytes, loaded.loaded_slack_bytes),
    ]
    shown = [replace(line, alive_in=_phases(line)) for line in Ledger.of(lines).lines]
    return [*shown, _workspace(gpu)]


def _kept(asked: Inference) -> KeptCache | None:
    """The cache in the formulas' terms; none: the usual one."""
    config = asked.quantized_cache
    if config is None:
        return KeptCache() if asked.cache_implementation == "offloaded" else None
    keys, values = (
        Quantizer(config.backend, config.nbits, config.q_group_size, along_last=axis == -1)
        for axis in (config.axis_key, config.axis_value)
    )
    return KeptCache(keys, values, 0 if config.backend == "fp8" else config.residual_length)


def cache_in_words(asked: Inference) -> str:
    """What decides the tensors of the cache: how it is kept, not how long it is."""
    config = asked.quantized_cache
    if config is None:
        return asked.cache_implementation
    if config.backend == "fp8":
        return "quantized by fp8"
    return f"quantized by {config.backend}, {config.nbits} bits, axes {config.axis_key} and {config.axis_value}"


def _phases(line: Line) -> tuple[str, ...]:
    """In the phases of `generate`: what is there in a step's forward stands while tokens are made."""
    load = ("load",) if "load" in line.alive_in else ()
    return (*load, *(PHASES[1:] if "forward" in line.alive_in else ()))


def _workspace(gpu: Gpu) -> Line:
    each_bytes = workspace_bytes(gpu.compute_capability)
    return Line(
        name="cuBLAS workspace",
        bytes=each_bytes,
        cause="runtime",
        alive_in=PHASES[1:],
        formula="32 MiB on compute capability 9, 10, 12; 8.125 MiB elsewhere",
        working=f"{each_bytes:,}",
        source="torch 2.13, aten/src/ATen/cuda/CublasHandlePool.cpp parseChosenWorkspaceSize",
    )
