"""The tensors that PEFT's methods put beside an adapted weight of N rows and K columns, trained and not.

Source: peft 0.21.2, tuners/lora/layer.py, vera/layer.py and model.py, ia3/layer.py and model.py, oft/layer.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from planner.errors import FieldProblem, InvalidRequestError, NotPlannedError
from planner.request.lora import Lora
from planner.request.peft_types import METHODS
from planner.tensors.inventory import Census
from planner.tensors.modules import Adapted
from planner.units import allocated

_FLOAT32_BYTES = 4
_INDEX_BYTES = 8
MAGNITUDE = "lora_magnitude_vector"
# peft/utils/constants.py, TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING, of the types described here.
_FEEDFORWARD = dict.fromkeys(
    ("llama", "mistral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), ("down_proj",)
) | {
    "mixtral": ("w2",), "gpt2": ("mlp.c_proj",), "gpt_bigcode": ("mlp.c_proj",), "opt": ("fc2",), "phi": ("fc2",),
    "bloom": ("mlp.dense_4h_to_h",), "falcon": ("dense_4h_to_h",), "gpt_neox": ("dense_4h_to_h",),
    "gpt_neo": ("c_proj",), "gptj": ("fc_out",),
}  # fmt: skip


class Part(NamedTuple):
    """One trained tensor of an adapted weight."""

    name: str
    shape: tuple[int, ...]


def parts_of(weight: Adapted, lora: Lora, model_type: str, *, trains_ranks: bool = False) -> list[Part]:
    """The trained tensors of one adapted weight, in the order of its module's parameters.

    `trains_ranks`: AdaLoRA's number of ranks is one of them, which PEFT does not mean. Where it casts 16-bit adapters
    to float32 (cast_adapter_dtype), ParameterDict.__setitem__ makes parameters anew, which are trained.
    """
    parts = _PARTS[lora.peft_type](weight, lora, model_type)
    return [*parts, Part("ranknum", (1,))] if trains_ranks and lora.peft_type == "ADALORA" else parts


def _of_lora(weight: Adapted, lora: Lora, _: str) -> list[Part]:
    parts = [Part("lora_A", (weight.rank, weight.columns)), Part("lora_B", (weight.rows, weight.rank))]
    return [*parts, Part(MAGNITUDE, (weight.rows,))] if lora.use_dora else parts


def _of_adalora(weight: Adapted, _: Lora, __: str) -> list[Part]:
    rank = weight.rank
    return [Part("lora_A", (rank, weight.columns)), Part("lora_B", (weight.rows, rank)), Part("lora_E", (rank, 1))]


def _of_vera(weight: Adapted, _: Lora, __: str) -> list[Part]:
    return [Part("vera_lambda_b", (weight.rows,)), Part("vera_lambda_d", (weight.rank,))]


def _of_ia3(weight: Adapted, lora: Lora, model_type: str) -> list[Part]:
    inputs = is_feedforward(weight.name, lora, model_type)
    return [Part("ia3_l", (1, weight.columns) if inputs else (weight.rows, 1))]


def _of_oft(weight: Adapted, lora: Lora, _: str) -> list[Part]:
    block = oft_block(weight.columns, lora.oft_block_size)
    return [Part("oft_R", (weight.columns // block, above_diagonal(block)))]


_PARTS: dict[str, Callable[[Adapted, Lora, str], list[Part]]] = {
    "LORA": _of_lora, "ADALORA": _of_adalora, "VERA": _of_vera, "IA3": _of_ia3, "OFT": _of_oft,
}  # fmt: skip


def frozen_bytes(adapted: Sequence[Adapted], lora: Lora, *, trains_ranks: bool) -> int:
    """What a method keeps beside its trained tensors: AdaLoRA a number for each module, its rank; VeRA one pair of
    matrices for all, as large as the largest asks for; OFT for each the places of a block's numbers above its diagonal.
    """
    if lora.peft_type == "ADALORA":
        return 0 if trains_ranks else sum(allocated(_FLOAT32_BYTES) * weight.count for weight in adapted)
    if lora.peft_type == "VERA":
        rows, columns = max(weight.rows for weight in adapted), max(weight.columns for weight in adapted)
        return sum(allocated(_FLOAT32_BYTES * lora.r * length) for length in (columns, rows))
    if lora.peft_type == "OFT":
        blocks = ((oft_block(weight.columns, lora.oft_block_size), weight.count) for weight in adapted)
        return sum(2 * allocated(_INDEX_BYTES * above_diagonal(block)) * count for block, count in blocks)
    return 0


def is_feedforward(name: str, lora: Lora, model_type: str) -> bool:
    """Whether IA3 scales this module's input, and not its output."""
    names = _FEEDFORWARD.get(model_type, ()) if lora.feedforward_modules is None else lora.feedforward_modules
    return name.endswith(tuple(names)) if names else False


def above_diagonal(block: int) -> int:
    """Numbers above the diagonal of a square of `block`."""
    return block * (block - 1) // 2


def oft_block(columns: int, asked: int) -> int:
    """The block size that PEFT takes: the asked one, or the nearest that divides (adjust_oft_parameters)."""
    if asked >= columns:
        return columns
    higher = lower = asked
    while higher <= columns and columns % higher:
        higher += 1
    while lower > 1 and columns % lower:
        lower -= 1
    return lower if asked - lower <= higher - asked else higher


def refuse_what_the_method_cannot(adapted: Sequence[Adapted], census: Census, model_type: str, lora: Lora) -> None:
    """Of methods other than LoRA.

    Raises:
        InvalidRequestError: PEFT does not know IA3's feed-forward modules of this family.
        NotPlannedError: an embedding or the output head is among the targets.
    """
    if lora.peft_type == "LORA":
        return
    label = METHODS[lora.peft_type].label
    ends = {group.name.removesuffix(".weight") for group in census if group.role in {"embedding", "head"}} | {"lm_head"}
    outside = next((weight.name for weight in adapted if weight.name in ends), None)
    if outside:
        fix = f"{label} on {outside} is not planned; name modules of layers"
        raise NotPlannedError(f"{label} cannot be planned so.", [FieldProblem("lora.target_modules", fix)])
    if lora.peft_type == "IA3" and lora.feedforward_modules is None and model_type not in _FEEDFORWARD:
        fix = f"PEFT knows none of {model_type}; name the targets whose input is scaled, such as [down_proj], or []"
        raise InvalidRequestError("IA3 must be told more.", [FieldProblem("lora.feedforward_modules", fix)])
