"""Gemma 4 with its vision tower, as `AutoModelForCausalLM` builds it from the published config; trained on text.

Source: transformers 5.23 models/gemma4/modeling_gemma4.py, Gemma4ForConditionalGeneration and Gemma4VisionModel. Text
alone never enters the tower: its weights lie there, its adapters get no gradient.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from planner.families.config import Fields
from planner.families.gemma.gemma4 import gemma4
from planner.families.parts import Block, Decoder, LayerInputs, Norm, Structure
from planner.tensors.inventory import Census, TensorGroup

_TEXT, _INNER = "model.", "model.language_model."


def gemma4_whole(fields: Fields) -> Decoder:
    """The text decoder under another name, and the tensors beside it."""
    text = Fields("gemma4_text", _nested(fields, "text_config"))
    decoder = gemma4(text)
    fields.problems += [replace(problem, field=f"model.text_config{problem.field[5:]}") for problem in text.problems]
    if fields.values.get("audio_config") is not None:
        fields.problem("audio_config", "is not known to the formulas; plan the text_config alone, or try the dry run")
    tower: Census = ()
    if fields.values.get("vision_config") is not None:
        vision = Fields("gemma4_vision", _nested(fields, "vision_config"))
        tower = tuple(_tower(vision, decoder))
        fields.problems += vision.problems
    structure = replace(_renamed(decoder.structure), replaces_media=True)
    return replace(decoder, model_type="gemma4", structure=structure, towers=tower)


def _nested(fields: Fields, name: str) -> Mapping[str, Any]:
    value = fields.values.get(name)
    if value is None or isinstance(value, Mapping):
        return value or {}
    fields.problem(name, "must be a config object")
    return {}


def _renamed(structure: Structure) -> Structure:
    inputs = structure.layer_inputs
    return replace(
        structure,
        embedding=_inner(structure.embedding),
        blocks=tuple(_renamed_block(block) for block in structure.blocks),
        final_norm=_renamed_norm(structure.final_norm) if structure.final_norm else None,
        layer_inputs=_renamed_inputs(inputs) if inputs else None,
    )


def _inner(name: str) -> str:
    return _INNER + name.removeprefix(_TEXT)


def _renamed_block(block: Block) -> Block:
    return replace(block, prefix=_inner(block.prefix))


def _renamed_norm(norm: Norm) -> Norm:
    return replace(norm, name=_inner(norm.name))


def _renamed_inputs(inputs: LayerInputs) -> LayerInputs:
    return LayerInputs(
        embedding=_inner(inputs.embedding),
        projection=replace(inputs.projection, name=_inner(inputs.projection.name)),
        norm=_renamed_norm(inputs.norm),
    )


def _tower(fields: Fields, decoder: Decoder) -> Iterator[TensorGroup]:
    width, inner = fields.count("hidden_size", default=768), fields.count("intermediate_size", default=3072)
    heads, head_dim = fields.count("num_attention_heads", default=12), fields.count("head_dim", default=64)
    groups, layers = fields.count("num_key_value_heads", default=12), fields.count("num_hidden_layers", default=16)
    patch = fields.count("patch_size", default=16)
    if fields.flag("attention_bias"):
        fields.problem("vision_config.attention_bias", "is not known to the formulas; try the dry run")
    tower, layer = "model.vision_tower.", "model.vision_tower.encoder.layers.*."
    table = (2, fields.count("position_embedding_size", default=10_240), width)
    yield _group(f"{tower}patch_embedder.position_embedding_table", table, 1, role="other")
    yield _group(f"{tower}patch_embedder.input_proj.weight", (width, 3 * patch * patch), 1)
    for name, rows, columns in (
        ("self_attn.q_proj", heads * head_dim, width), ("self_attn.k_proj", groups * head_dim, width),
        ("self_attn.v_proj", groups * head_dim, width), ("self_attn.o_proj", width, heads * head_dim),
        ("mlp.gate_proj", inner, width), ("mlp.up_proj", inner, width), ("mlp.down_proj", width, inner),
    ):  # fmt: skip
        yield _group(f"{layer}{name}.linear.weight", (rows, columns), layers)
    for name in ("self_attn.q_norm", "self_attn.k_norm"):
        yield _group(f"{layer}{name}.weight", (head_dim,), layers, role="norm")
    for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        yield _group(f"{layer}{name}_layernorm.weight", (width,), layers, role="norm")
    yield _group("model.embed_vision.embedding_projection.weight", (decoder.sizes["h"], width), 1)
    yield from _tower_buffers(fields, tower, width, head_dim)


def _tower_buffers(fields: Fields, tower: str, width: int, head_dim: int) -> Iterator[TensorGroup]:
    """Both axes of an image share one set of frequencies: a quarter of a head."""
    if fields.flag("standardize"):
        for name in ("std_bias", "std_scale"):
            yield TensorGroup(name=f"{tower}{name}", role="buffer", shape=(width,), count=1)
    for form in ("", "original_"):
        name = f"{tower}encoder.rotary_emb.{form}inv_freq"
        yield TensorGroup(name=name, role="buffer", shape=(head_dim // 4,), count=1, keeps_float32=True)


def _group(name: str, shape: tuple[int, ...], count: int, role: Any = "linear") -> TensorGroup:
    return TensorGroup(
        name=name, role=role, shape=shape, count=count, quantizable=role == "linear", keeps_float32=False
    )
