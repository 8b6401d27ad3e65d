"""transformers' `generate` on one card, byte by byte: the prompt read at once, then one token after another.

Weights stand throughout. While the prompt is read, each layer leaves its keys and values and the worst moment is in the
last layers or at the head. Of each later token a layer's keys, then its values, are made anew beside the old ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.allocator.load_phase import INSTALLED
from planner.answer.static_lines import loaded_model, trained_tensors
from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Ledger, Line
from planner.memory.adapters import adapter_lines
from planner.memory.runtime import slack_lines, workspace_bytes
from planner.memory.weights import weight_lines
from planner.model.model import Model
from planner.model.quantized_checkpoint import on_card
from planner.model.resolved_request import settled
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.serving.kv_cache import cache_bytes, cached_tokens
from planner.serving.request import Inference
from planner.step.attention.kv_cache import CACHE, CACHED
from planner.step.derive_switches import numbers_of, switches_of
from planner.step.engine.program import Part, tables_of, worst_instants
from planner.step.generating_pass import walk_generation
from planner.step.legend import cause_of
from planner.step.lines import ordered
from planner.step.recorded import Known, generation_words, nearest
from planner.tensors.tensor_storage import place

PHASES = ("load", "prefill", "decode")
_SOURCE = "planner/step: transformers 5.23 generation/utils.py, cache_utils.py, bitsandbytes 0.50, torch 2.14, traced"


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
    prefill = _pass(decoder, recipe, gpu, asked, decoding=False)
    decode = _pass(decoder, recipe, gpu, asked, decoding=True)
    lines = (*standing, *_phase_lines(prefill, "prefill"), *_phase_lines(decode, "decode"))
    lines = (*lines, *_cache_line(decoder, recipe, asked))
    known = generation_words(decoder, recipe, gpu)
    kept = nearest("generation", known).labelled(line for line in lines if line.bytes)
    totals = {name: sum(line.bytes for line in kept if name in line.alive_in) for name in PHASES}
    return Generated(kept, totals, known)


def standing_lines(model: Model, recipe: Recipe, gpu: Gpu) -> list[Line]:
    """Weights as they are loaded and used, an adapter beside them, the allocator's slack, one cuBLAS workspace."""
    loaded = loaded_model(model.census, recipe, INSTALLED)
    adapters = adapter_lines(trained_tensors(model, recipe)) if recipe.lora else []
    lines = [
        *weight_lines(place(model.census, recipe), recipe, adapters_bytes=0),
        *adapters,
        *slack_lines(loaded.loaded_slack_bytes, loaded.loaded_slack_bytes),
    ]
    shown = [replace(line, alive_in=_phases(line)) for line in Ledger.of(lines).lines]
    return [*shown, _workspace(gpu)]


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


def _pass(
    decoder: Decoder, recipe: Recipe, gpu: Gpu, asked: Inference, *, decoding: bool
) -> Mapping[str, Sequence[Part]]:
    """What each of the pass's lines holds at its worst instant."""
    training = recipe.training.model_copy(update={"max_length": 1 if decoding else asked.prompt})
    recipe = replace(recipe, training=training)
    program = walk_generation(decoder.structure, switches_of(decoder, recipe, gpu), decoding=decoding)
    tables = [
        {**table, CACHED: asked.batch * cached_tokens(decoder, kind, asked.context - 1)}
        for kind, table in enumerate(numbers_of(decoder, recipe, gpu.compute_capability))
    ]
    numbers = (*tables, tables[0], *tables)
    instants = worst_instants(program, ordered(decoder, program.leading), tables_of(program, numbers))
    return max(instants, key=lambda instant: instant.bytes).lines


def _phase_lines(found: Mapping[str, Sequence[Part]], phase: str) -> list[Line]:
    return [
        Line(
            name=name,
            bytes=sum(part[2] for part in parts),
            cause=cause_of(name),
            alive_in=(phase,),
            formula=" + ".join(_term(part) for part in sorted(parts, key=lambda part: -part[2])[:5]),
            source=_SOURCE,
        )
        for name, parts in found.items()
    ]


def _term(part: Part) -> str:
    size, count = part[0], part[1]
    factors = [str(count)] if count != 1 else []
    factors += [str(size.num), *(f"[{name}]" if " " in name else name for name in size.dims)]
    return "·".join(factors) + (f"/{size.den}" if size.den > 1 else "")


def _cache_line(decoder: Decoder, recipe: Recipe, asked: Inference) -> list[Line]:
    """The whole cache as it stands beside a token, which the walk of one token leaves out: the first or the last."""
    each = DTYPE_BYTES[recipe.model_dtype]
    first = cache_bytes(decoder, asked.batch, asked.prompt, each=each, windows=False, repeated=True)
    last = cache_bytes(decoder, asked.batch, asked.context - 1, each=each, repeated=True)
    return [
        Line(
            name=CACHE,
            bytes=max(first, last),
            cause="activations",
            alive_in=("decode",),
            formula="Σ over layers of e·b·n·(keys + values), n the tokens that the layer keeps, or its state",
            working=f"{asked.batch:,} × {asked.prompt if first > last else asked.context - 1:,} tokens",
            source=_SOURCE,
        )
    ]
