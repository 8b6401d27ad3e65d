"""vLLM on one card: it takes its share of the card at once, and what weights and a trial run leave of it is cache.

Modelled, not run. Sources: vllm 0.11 v1/worker/gpu_worker.py determine_available_memory (share of the card less
weights, less the peak of a trial run, less what lies outside torch), v1/core/kv_cache_utils.py (blocks of 16 tokens),
engine/arg_utils.py get_batch_defaults (sequences and tokens of the trial run).
"""

from dataclasses import dataclass

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Line
from planner.model.model import Model
from planner.serving.request import Inference
from planner.step.cache_bytes import cache_bytes
from planner.units import GIB, ceil_div

BLOCK_TOKENS = 16
# get_batch_defaults: cards of 70 GiB and more that are no A100 try 1,024 sequences and 8,192 tokens, others 256, 2,048.
_LARGE_CARD_BYTES = 70 * GIB
# What the trial run holds at its peak for each sequence and word of the vocabulary, while its sampler sorts: of five
# models on an H100 at 1,024 sequences, 4.76 to 7.38 GiB in all, it is 38.4 to 39.6 bytes, the median 38.9.
SAMPLER_BYTES = 38.9
SAMPLER_RANGE = (38.3, 39.6)
SAMPLER_SOURCE = (
    "github:llm-d/llm-d-benchmark@259334868c5075da530cc6c90b43fceb11b6e6a7:config_explorer/"
    "empirical-vllm-memory-results.md, peak activation of gpt-oss-20b, Llama-3.1-8B, Llama-3.3-70B, Qwen3-0.6B and 32B"
)
# The same table: what lies outside torch on one card.
OUTSIDE_BYTES = round(0.13 * GIB)
SOURCE = "vllm/v1/worker/gpu_worker.py determine_available_memory"


@dataclass(frozen=True, slots=True)
class Shares:
    """How vLLM divides its share of a card. `cache` may be negative: then it refuses to start."""

    asked_bytes: int
    weights_bytes: int
    trial_bytes: int

    @property
    def cache_bytes(self) -> int:
        """What is left for keys and values."""
        return self.asked_bytes - self.weights_bytes - self.trial_bytes - OUTSIDE_BYTES


def shares(asked: Inference, model: Model, gpu: Gpu, weights_bytes: int) -> Shares:
    """The division for this model on this card, its weights taking `weights_bytes`."""
    decoder = model.known_decoder()
    return Shares(round(gpu.usable_bytes * asked.gpu_memory_utilization), weights_bytes, trial_bytes(decoder, gpu))


def trial_bytes(decoder: Decoder, gpu: Gpu) -> int:
    """Peak of the trial run beside the weights: its sampler, or its widest layer, whichever is more."""
    large = gpu.usable_bytes >= _LARGE_CARD_BYTES and "a100" not in gpu.name.lower()
    sequences, tokens = (1024, 8192) if large else (256, 2048)
    sizes = [{**decoder.sizes, **own} for own in decoder.kind_sizes]
    # Input, residual, and gate and up at once with their product, in 16 bit.
    layer = max(2 * tokens * (2 * own["h"] + 3 * max(own.get("I", 0), own.get("q", 0))) for own in sizes)
    return max(round(SAMPLER_BYTES * sequences * decoder.sizes["V"]), layer)


def sequence_bytes(asked: Inference, decoder: Decoder, tokens: int) -> int:
    """Cache of one sequence of `tokens` tokens, in whole blocks; fp8 takes a byte an element."""
    each = 1 if asked.kv_cache_dtype == "fp8" else 2
    return cache_bytes(decoder, 1, ceil_div(tokens, BLOCK_TOKENS) * BLOCK_TOKENS, each=each)


def lines(asked: Inference, found: Shares, decoder: Decoder) -> list[Line]:
    """What the trial and the cache take, the whole of what is left, whatever is asked for."""
    needed = asked.batch * sequence_bytes(asked, decoder, asked.context)
    return [
        Line(
            name="trial run: sampler or widest layer", bytes=found.trial_bytes, cause="activations",
            alive_in=("serve",), formula="38.9 · sequences · V, or 2 · tokens · (2 h + 3 I)", evidence="modelled",
            source=SAMPLER_SOURCE,
        ),
        Line(
            name="key and value cache, blocks of 16 tokens", bytes=max(0, found.cache_bytes), cause="activations",
            alive_in=("serve",), formula="gpu_memory_utilization · card - weights - trial run - outside torch",
            working=f"{needed:,} of it for {asked.batch:,} × {asked.context:,} tokens", evidence="modelled",
            source=SOURCE,
        ),
    ]  # fmt: skip
