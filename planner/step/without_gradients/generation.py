"""What `generate` makes, byte by byte: the prompt read at once, then one token after another, each layer's cache anew.

Sources: transformers 5.23 generation/utils.py and cache_utils.py; of GRPO, trl 1.16 trainer/grpo_trainer.py
_generate_single_turn: the completions of a whole optimizer step are generated together, by the model in training mode,
without checkpointing. Adapters wrap the model whose `forward` runs under autocast, and generate without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Line
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step.attention.kv_cache import CACHE, CACHED
from planner.step.attention.other_caches import FETCHED, KEPT, STORED
from planner.step.cache_bytes import cached_tokens
from planner.step.engine.program import Part, worst_instants
from planner.step.engine.tables import tables_of
from planner.step.from_recipe.adapted_layers import by_adapters
from planner.step.from_recipe.derive_numbers import numbers_of
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.legend import cause_of
from planner.step.lines import formula_of, largest_terms, ordered
from planner.step.recorded import generation_words, nearest
from planner.step.without_gradients.buffered_batch import buffered_batch
from planner.step.without_gradients.cache_moments import (
    KeptCache,
    Moment,
    moments,
    one_layer_bytes,
    refuse_what_cannot_be_kept,
)
from planner.step.without_gradients.generating_pass import trace_generation

_SOURCE = "planner/step: transformers 5.23 generation/utils.py, cache_utils.py, bitsandbytes 0.50, torch 2.14, traced"


@dataclass(frozen=True, slots=True)
class Generation:
    """So many sequences of so many tokens, of which `prompt` are there before.

    `sampled`: drawn, not the likeliest. `kept`: the cache, where it is not the usual one.
    """

    decoder: Decoder
    recipe: Recipe
    gpu: Gpu
    sequences: int
    prompt: int
    tokens: int
    sampled: bool = False
    kept: KeptCache | None = None

    @classmethod
    def of_step(cls, decoder: Decoder, recipe: Recipe, gpu: Gpu) -> "Generation":
        """What a step of GRPO begins with."""
        decoder = by_adapters(decoder, recipe.lora)
        own = replace(recipe, autocast=recipe.autocast if recipe.lora is None else None)
        sequences = recipe.batch * recipe.steps_of_generation
        return cls(decoder, own, gpu, sequences, recipe.length - recipe.completion, recipe.length, sampled=True)

    def lines(self, phases: tuple[str, str]) -> list[Line]:
        """Lines of the worst instants of the two parts, alive in the phases named for them."""
        if self.kept:
            refuse_what_cannot_be_kept(self.decoder, self.kept)
        shape = (self.sequences, self.prompt, self.tokens)
        tokens = [(moment, self._worst(moment)) for moment in moments(self.decoder, self.kept, shape, self._each)]
        moment, token = max(tokens, key=lambda found: found[0].standing_bytes + _held_bytes(found[1]))
        return [
            *self._lines(self._worst(None), phases[0]),
            *self._fetched(phases[0]),
            *self._lines(token, phases[1]),
            self._standing_cache(moment, phases[1]),
        ]

    @property
    def _each(self) -> int:
        """Bytes of a key or a value."""
        return DTYPE_BYTES[self.recipe.autocast or self.recipe.model_dtype]

    def _worst(self, moment: Moment | None) -> Mapping[str, Sequence[Part]]:
        """What each line holds at the worst instant of one token, or of the prompt."""
        decoding = moment is not None
        training = self.recipe.training.model_copy(
            update={"max_length": 1 if decoding else self.prompt, "per_device_train_batch_size": self.sequences,
                    "gradient_checkpointing": False, "gradient_accumulation_steps": 1}
        )  # fmt: skip
        recipe = replace(self.recipe, training=training, objective="sft")
        switches = switches_of(self.decoder, recipe, self.gpu)
        how = moment.how if moment else self.kept.traced if self.kept else None
        program = trace_generation(
            self.decoder.structure, switches, decoding=decoding, sampled=self.sampled, other_cache=how
        )
        counts = (moment.tokens, moment.stored, moment.kept) if moment else (self.tokens - 1, 0, 0)
        tables = [
            {
                **table,
                CACHED: self.sequences * cached_tokens(self.decoder, kind, counts[0]),
                STORED: self.sequences * counts[1],
                KEPT: self.sequences * counts[2],
            }
            for kind, table in enumerate(numbers_of(self.decoder, recipe, self.gpu))
        ]
        numbers = (*tables, tables[0], *tables)
        instants = worst_instants(program, ordered(self.decoder, program.leading), tables_of(program, numbers))
        return max(instants, key=lambda instant: instant.bytes).lines

    def _lines(self, found: Mapping[str, Sequence[Part]], phase: str) -> list[Line]:
        return [
            Line(
                name=name,
                bytes=sum(part[2] for part in parts),
                cause=cause_of(name),
                alive_in=(phase,),
                formula=formula_of(largest_terms(parts)),
                source=_SOURCE,
            )
            for name, parts in found.items()
        ]

    def _standing_cache(self, moment: Moment, phase: str) -> Line:
        """The whole cache beside a token, which the trace of one token leaves out."""
        stored = f", {moment.stored:,} of them quantized" if moment.stored else ""
        offloaded = self.kept is not None and self.kept.keys is None
        return Line(
            name=CACHE,
            bytes=moment.standing_bytes,
            cause="activations",
            alive_in=(phase,),
            formula="e·b·n·(keys + values) of the layer that comes next; the others wait on the host"
            if offloaded
            else "Σ over layers of e·b·n·(keys + values), n the tokens that the layer keeps, or its state",
            working=f"{self.sequences:,} × {moment.tokens:,} tokens{stored}",
            source=_SOURCE,
        )

    def _fetched(self, phase: str) -> list[Line]:
        """An offloaded cache: the last layer has the first one's fetched, while it reads the prompt itself."""
        if self.kept is None or self.kept.keys:
            return []
        return [
            Line(
                name=FETCHED,
                bytes=one_layer_bytes(self.decoder, self.sequences, self.prompt, self._each),
                cause="activations",
                alive_in=(phase,),
                formula="e·b·n·(keys + values)",
                working=f"{self.sequences:,} × {self.prompt:,} tokens",
                source="transformers 5.23 cache_utils.py, Cache.prefetch",
            )
        ]


def _held_bytes(found: Mapping[str, Sequence[Part]]) -> int:
    return sum(part[2] for parts in found.values() for part in parts)


@lru_cache(maxsize=64)
def generated_lines(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """Of a step of GRPO, what the larger of the two parts holds beside the batch before, as lines of its forward phase.

    Kept for a moment: a plan asks for their sum first, and for the lines when they are read.
    """
    parts = ("prefill", "decode")
    known = generation_words(decoder, recipe, gpu)
    lines = nearest("generation", known).labelled(Generation.of_step(decoder, recipe, gpu).lines(parts))
    largest = max(parts, key=lambda part: sum(line.bytes for line in lines if line.alive_in == (part,)))
    made = tuple(
        replace(line, name=f"{line.name} while completions are generated", alive_in=("forward",))
        for line in lines
        if line.alive_in == (largest,) and line.bytes
    )
    return (*made, *buffered_batch(recipe, "forward"))
