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
from planner.step.cache_bytes import cache_bytes, cached_tokens
from planner.step.engine.program import Part, worst_instants
from planner.step.engine.tables import tables_of
from planner.step.from_recipe.adapted_layers import by_adapters
from planner.step.from_recipe.derive_numbers import numbers_of
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.legend import cause_of
from planner.step.lines import formula_of, largest_terms, ordered
from planner.step.recorded import generation_words, nearest
from planner.step.without_gradients.buffered_batch import buffered_batch
from planner.step.without_gradients.generating_pass import trace_generation

_SOURCE = "planner/step: transformers 5.23 generation/utils.py, cache_utils.py, bitsandbytes 0.50, torch 2.14, traced"


@dataclass(frozen=True, slots=True)
class Generation:
    """So many sequences of so many tokens, of which `prompt` are there before. `sampled`: drawn, not the likeliest."""

    decoder: Decoder
    recipe: Recipe
    gpu: Gpu
    sequences: int
    prompt: int
    tokens: int
    sampled: bool = False

    @classmethod
    def of_step(cls, decoder: Decoder, recipe: Recipe, gpu: Gpu) -> "Generation":
        """What a step of GRPO begins with."""
        decoder = by_adapters(decoder, recipe.lora)
        own = replace(recipe, autocast=recipe.autocast if recipe.lora is None else None)
        sequences = recipe.batch * recipe.steps_of_generation
        return cls(decoder, own, gpu, sequences, recipe.length - recipe.completion, recipe.length, sampled=True)

    def lines(self, phases: tuple[str, str]) -> list[Line]:
        """Lines of the worst instants of the two parts, alive in the phases named for them."""
        prompt, token = (self._worst(decoding=decoding) for decoding in (False, True))
        return [*self._lines(prompt, phases[0]), *self._lines(token, phases[1]), self._standing_cache(phases[1])]

    def _worst(self, *, decoding: bool) -> Mapping[str, Sequence[Part]]:
        """What each line holds at the part's worst instant."""
        training = self.recipe.training.model_copy(
            update={"max_length": 1 if decoding else self.prompt, "per_device_train_batch_size": self.sequences,
                    "gradient_checkpointing": False, "gradient_accumulation_steps": 1}
        )  # fmt: skip
        recipe = replace(self.recipe, training=training, objective="sft")
        switches = switches_of(self.decoder, recipe, self.gpu)
        program = trace_generation(self.decoder.structure, switches, decoding=decoding, sampled=self.sampled)
        tables = [
            {**table, CACHED: self.sequences * cached_tokens(self.decoder, kind, self.tokens - 1)}
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

    def _standing_cache(self, phase: str) -> Line:
        """The whole cache beside a token, which the trace of one token leaves out: the first or the last."""
        each = DTYPE_BYTES[self.recipe.autocast or self.recipe.model_dtype]
        decoder, sequences = self.decoder, self.sequences
        first = cache_bytes(decoder, sequences, self.prompt, each=each, windows=False, repeated=True)
        last = cache_bytes(decoder, sequences, self.tokens - 1, each=each, repeated=True)
        return Line(
            name=CACHE,
            bytes=max(first, last),
            cause="activations",
            alive_in=(phase,),
            formula="Σ over layers of e·b·n·(keys + values), n the tokens that the layer keeps, or its state",
            working=f"{sequences:,} × {self.prompt if first > last else self.tokens - 1:,} tokens",
            source=_SOURCE,
        )


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
