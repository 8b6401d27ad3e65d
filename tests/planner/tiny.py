"""A small model written by hand, for worked numbers that a reader can follow with a pencil."""

from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.tensors.inventory import Census, TensorGroup


def group(name: str, role: str, shape: tuple[int, ...], count: int = 1, **flags: bool) -> TensorGroup:
    return TensorGroup(name=name, role=role, shape=shape, count=count, **flags)  # type: ignore[arg-type]  # literals


# Two layers, hidden 256, MLP 688, 2 of 4 heads for keys, 1,000 tokens: as transformers builds it.
LLAMA: Census = (
    group("model.embed_tokens.weight", "embedding", (1000, 256)),
    group("model.layers.*.self_attn.q_proj.weight", "linear", (256, 256), 2, quantizable=True),
    group("model.layers.*.self_attn.k_proj.weight", "linear", (128, 256), 2, quantizable=True),
    group("model.layers.*.self_attn.v_proj.weight", "linear", (128, 256), 2, quantizable=True),
    group("model.layers.*.self_attn.o_proj.weight", "linear", (256, 256), 2, quantizable=True),
    group("model.layers.*.mlp.gate_proj.weight", "linear", (688, 256), 2, quantizable=True),
    group("model.layers.*.mlp.up_proj.weight", "linear", (688, 256), 2, quantizable=True),
    group("model.layers.*.mlp.down_proj.weight", "linear", (256, 688), 2, quantizable=True),
    group("model.layers.*.input_layernorm.weight", "norm", (256,), 2),
    group("model.layers.*.post_attention_layernorm.weight", "norm", (256,), 2),
    group("model.norm.weight", "norm", (256,)),
    group("lm_head.weight", "head", (1000, 256)),
)

# The same with 4 stacked experts in place of the MLP.
MIXTRAL: Census = (
    *LLAMA[:5],
    group("model.layers.*.mlp.gate.weight", "router", (4, 256), 2),
    group("model.layers.*.mlp.experts.gate_up_proj", "expert", (4, 1376, 256), 2),
    group("model.layers.*.mlp.experts.down_proj", "expert", (4, 256, 688), 2),
    *LLAMA[8:],
)

# GPT-2 stores (in, out), ties its head to wte, and has biases.
GPT2: Census = (
    group("transformer.wte.weight", "embedding", (500, 128)),
    group("transformer.wpe.weight", "embedding", (64, 128)),
    group("transformer.h.*.attn.c_attn.weight", "linear", (128, 384), 2, quantizable=True),
    group("transformer.h.*.attn.c_attn.bias", "bias", (384,), 2),
    group("transformer.h.*.mlp.c_proj.weight", "linear", (512, 128), 2, quantizable=True),
    group("transformer.h.*.mlp.c_proj.bias", "bias", (128,), 2),
    group("transformer.ln_f.weight", "norm", (128,)),
)


def recipe(**fields: object) -> Recipe:
    return Recipe.of(Request.parse({"model": "a model", "gpu": "a card", **fields}))
