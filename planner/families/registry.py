"""From a config to a Decoder: which function describes which model type, and how sure the formulas are of it."""

from collections.abc import Callable, Mapping
from typing import Any

from planner.errors import InvalidRequestError, UnknownArchitectureError, FieldProblem
from planner.families.config import Fields
from planner.families.llama import llama
from planner.families.parts import Decoder

_FAMILIES: dict[str, Callable[[Fields], Decoder]] = {
    "llama": llama,
    "mistral": llama,
    "ministral3": llama,
    "qwen2": llama,
    "qwen3": llama,
    "hunyuan_v1_dense": llama,
    "smollm3": llama,
    "seed_oss": llama,
    "ernie4_5": llama,
    "internlm3": llama,
}


def decoder_of(config: Mapping[str, Any]) -> Decoder:
    """Describe the model that `AutoModelForCausalLM` builds from `config`.

    Raises:
        UnknownArchitectureError: the model type is not known to the formulas.
        InvalidRequestError: names every missing or bad key of a known type.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        problem = FieldProblem("model.model_type", "is missing; write the config's model_type, such as llama")
        raise InvalidRequestError("The config does not say which model it is.", [problem])
    family = _FAMILIES.get(model_type)
    if family is None:
        msg = (
            f"Model type {model_type} is not known to the formulas; "
            "the dry run may know it: fitproof probe --on dry-run"
        )
        raise UnknownArchitectureError(msg)
    fields = Fields(model_type, config)
    decoder = family(fields)
    fields.check()
    return decoder
