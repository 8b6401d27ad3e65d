"""A language model as a reward model: a score of each sequence in place of the vocabulary's logits.

Source: transformers 5.23 modeling_layers.py GenericForSequenceClassification (`score`, without a bias), and the older
classes of the same shape; models/auto/modeling_auto.py MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.
"""

from dataclasses import replace
from functools import lru_cache

from planner.errors import FieldProblem, InvalidRequestError
from planner.families.parts import Decoder, Linear
from planner.model.model import Model
from planner.request.objective import Objective
from planner.tensors.inventory import TensorGroup
from planner.tensors.whole_modules import SCORE as SCORE_MODULE

SCORE = f"{SCORE_MODULE}.weight"
# Model types whose decoder transformers builds with such a head.
_WITH_A_CLASS = frozenset({
    "arcee", "bloom", "deepseek_v2", "deepseek_v3", "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "glm",
    "glm4", "gpt2", "gpt_neox", "gpt_oss", "gptj", "hunyuan_v1_dense", "llama", "ministral3", "mistral", "mixtral",
    "olmo", "olmo2", "olmo3", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_text", "qwen3_moe",
    "qwen3_next", "seed_oss", "smollm3", "stablelm", "starcoder2",
})  # fmt: skip


def for_objective(model: Model, objective: Objective) -> Model:
    """`model` with the head that the objective trains.

    Raises:
        InvalidRequestError: a reward model is asked for, and transformers builds none of this type.
    """
    if objective != "reward" or any(group.name == SCORE for group in model.census):
        return model
    if model.model_type not in _WITH_A_CLASS:
        fix = f"transformers has no sequence classification class for {model.model_type}; choose another model"
        raise InvalidRequestError("This model cannot score sequences.", [FieldProblem("training.objective", fix)])
    others = tuple(group for group in model.census if group.role != "head" and not group.name.startswith("lm_head."))
    return replace(
        model,
        census=(*others, TensorGroup(name=SCORE, role="head", shape=(1, _hidden_size(model)), count=1)),
        decoder=_scoring(model.decoder) if model.decoder else None,
    )


@lru_cache(maxsize=256)
def _scoring(decoder: Decoder) -> Decoder:
    """Kept for each decoder, which is found again by identity."""
    head = Linear(name=SCORE_MODULE, in_="h", out="labels", role="head", quantizable=False)
    structure = replace(
        decoder.structure, head=head, tied=False, logits_scaled=False, logits_softcap=False, logits_float=False
    )
    return replace(decoder, structure=structure, sizes={**decoder.sizes, "labels": 1})


def _hidden_size(model: Model) -> int:
    return int(model.facts["hidden_size"])
