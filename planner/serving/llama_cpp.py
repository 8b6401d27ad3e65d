"""llama.cpp with every layer on one card: a GGUF file's tensors, a cache for all slots, and one compute buffer.

Modelled, not run. Sources: llama.cpp tools/quantize/README.md (bits per weight of each kind of file), ggml-common.h
(blocks), src/llama-kv-cache.cpp (a cell for each token of all slots), src/llama-context.cpp (graph_reserve: a batch of
n_ubatch tokens with all its logits; 512 unless told otherwise). The token embedding stays on the host (llama-model.cpp,
"the input layer is always on the CPU").
"""

from planner.families.parts import Decoder
from planner.ledger import Line
from planner.model.model import Model
from planner.serving.request import Inference
from planner.step.cache_bytes import cache_bytes
from planner.units import ceil_div

README = (
    "github:ggml-org/llama.cpp@311c2c9f0ebd6e08f5b20e8827c654cebb7a41d6:tools/quantize/README.md, "
    "bits/weight of Llama 3.1 8B"
)
# Of a whole file, and of the block that its token embedding is in (ggml-common.h: block_q4_K is 144 bytes of 256, ...).
GGUF: dict[str, tuple[float, float]] = {
    "F16": (16.0005, 16.0), "Q8_0": (8.5008, 8.5), "Q6_K": (6.5633, 6.5625), "Q5_K_M": (5.7036, 5.5),
    "Q5_K_S": (5.5704, 5.5), "Q4_K_M": (4.8944, 4.5), "Q4_K_S": (4.6672, 4.5), "IQ4_XS": (4.4597, 4.25),
    "Q3_K_L": (4.2979, 3.4375), "Q3_K_S": (3.6429, 3.4375), "Q2_K": (3.1593, 2.625),
}  # fmt: skip
# Bytes of a block and its elements (ggml-common.h: a 16-bit scale beside 32 numbers).
CACHE_BLOCKS = {"auto": (2, 1), "f16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}
UBATCH = 512
# llama-kv-cache.cpp, get_padding: cells come in multiples of this.
CELLS = 256


def weights_bytes(asked: Inference, model: Model) -> int:
    """A file's tensors less the token embedding, which the host keeps; a tied one is there for the head as well."""
    whole, embedding = GGUF[asked.gguf]
    decoder = model.known_decoder()
    on_host = 0 if decoder.structure.tied else decoder.sizes["V"] * decoder.sizes["h"]
    return round((model.params * whole - on_host * embedding) / 8)


def slots_bytes(asked: Inference, decoder: Decoder) -> int:
    """Cells of all slots together; a state of a layer without keys is one for each slot, in float32."""
    size, elements = CACHE_BLOCKS[asked.kv_cache_dtype]
    tokens = ceil_div(asked.context, CELLS) * CELLS
    return cache_bytes(decoder, asked.batch, tokens, each=size) // elements


def compute_bytes(decoder: Decoder) -> int:
    """One batch of 512 tokens with flash attention: all logits and a hidden state in float32.

    Llama 3 8B's logs say 258.50 MiB, which is 512 · 4 · (128,256 + 4,096); Qwen2.5 3B's 300.75 MiB likewise.
    """
    return UBATCH * 4 * (decoder.sizes["V"] + decoder.sizes["h"])


def lines(asked: Inference, model: Model) -> list[Line]:
    """Weights, cache and compute buffer."""
    decoder = model.known_decoder()
    return [
        Line(
            name=f"GGUF tensors ({asked.gguf})", bytes=weights_bytes(asked, model), cause="weights",
            alive_in=("serve",), formula="(bits per weight · parameters - token embedding) / 8",
            working=f"{GGUF[asked.gguf][0]} bits × {model.params:,}", evidence="modelled", source=README,
        ),
        Line(
            name=f"key and value cache ({asked.kv_cache_dtype})", bytes=slots_bytes(asked, decoder),
            cause="activations", alive_in=("serve",),
            formula="slots · context, rounded up to 256 cells, · (keys + values)",
            working=f"{asked.batch:,} × {asked.context:,} tokens", evidence="modelled",
            source="llama.cpp src/llama-kv-cache.cpp",
        ),
        Line(
            name="compute buffer", bytes=compute_bytes(decoder), cause="workspace", alive_in=("serve",),
            formula="512 · 4 · (V + h)", evidence="modelled", source="llama.cpp src/llama-context.cpp graph_reserve",
        ),
    ]  # fmt: skip
