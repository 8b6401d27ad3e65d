"""What the symbols in a line's formula mean, and under which names people see what the trace calls its causes."""

from planner.ledger import Cause

LEGEND: dict[str, str] = {
    "T": "tokens in the micro-batch, b·s",
    "b": "sequences in the micro-batch",
    "pairs": "chosen sequences in the micro-batch, as many as were rejected",
    "s-1": "tokens of a sequence that are scored",
    "chosen copied": "tokens of chosen sequences that are scored, where there are several; one alone is no copy",
    "kept": "tokens in the micro-batch that are not padding",
    "s": "tokens in a sequence",
    "s padded": "the same up to a multiple of 8",
    "h": "hidden size",
    "I": "MLP inner width",
    "V": "vocabulary",
    "H": "query heads",
    "K": "key/value heads",
    "d": "head dimension",
    "q": "width of all queries of a token, H·d",
    "k": "width of all keys (or values) of a token, K·d",
    "r": "LoRA rank; r of …: of the adapters that rank_pattern names",
    "N": "scored tokens, of each sequence all that count but the first",
    "E": "experts",
    "J": "inner width of an expert",
    "L": "layers",
    "P": "columns of a layer's input (per-layer embeddings)",
    "Hv": "value heads of linear attention",
    "dk": "key columns of such a head",
    "dv": "value columns of such a head",
    "Hm": "heads of a Mamba layer",
    "dp": "columns of such a head",
    "n": "columns of its state, and of B and C",
    "G": "groups of such heads that share B and C",
    "TC": "tokens in the micro-batch, each sequence filled up to whole chunks",
    "C": "tokens of one chunk of every sequence",
    "chunk": "tokens of a chunk: 64 of linear attention, of a Mamba layer as its config says",
    "rotated": "columns of a head that the rotary embedding turns",
    "batch": "tokens of all micro-batches of an optimizer step",
    "micro-batches": "micro-batches of an optimizer step",
    "desirable": "examples of all micro-batches of an optimizer step, each micro-batch's up to a multiple of 512",
    "generated": "sequences that are generated for an optimizer step",
    "completions": "tokens of all their completions",
    "chunk rows": "scored tokens whose logits are there at a time",
    "next chunk rows": "the same of the chunk after it",
    "tile rows of logits": "scored tokens of a tile of logits",
    "tile columns": "words of the vocabulary in a tile of logits",
    "V8": "vocabulary, up to a multiple of 8",
    "parts of V": "parts of 16,384 words of the vocabulary",
    "row parts": "the same, where a row of logits has more than two",
}

GRADIENT = " (gradients)"

_SHOWN = {
    "residual stream": "residual stream and checkpointed layer inputs",
    "norms": "norms: float32 copies",
    "LoRA adapter paths": "LoRA: inputs, low-rank products, weight copies",
    "attention mask": "token ids, positions and rotary tables",
    "logits": "logits",
}


def shown_name(tag: str) -> str:
    """The line that the buffers called `tag` belong to. Gradients of activations share one, those of logits another."""
    if tag.endswith(GRADIENT):
        return "gradients of the logits" if "logit" in tag else "gradients on their way back"
    return _SHOWN.get(tag, tag)


def cause_of(name: str) -> Cause:
    """Which of the ledger's causes a shown line is."""
    if name == "gradients of trained weights":
        return "gradients"
    if "logit" in name:
        return "logits"
    if "workspace" in name or "expanded" in name or name.startswith("int8"):
        return "workspace"
    return "activations"
