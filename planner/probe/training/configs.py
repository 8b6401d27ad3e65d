"""The transformers config a request stands for, at full depth or cut to a shallow one."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from planner.errors import FieldProblem, InvalidRequestError
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request

# These keys of a config.json describe a checkpoint, not an architecture.
_CHECKPOINT_KEYS = frozenset(
    {"quantization_config", "auto_map", "architectures", "_name_or_path", "torch_dtype", "dtype"}
)


def config_of(request: Request, recipe: Recipe) -> PretrainedConfig:
    """The config object of the request's model, attention choice included.

    Raises:
        InvalidRequestError: transformers does not know this model type, or it is no causal language model.
    """
    fields = {key: value for key, value in config_fields(request).items() if key not in _CHECKPOINT_KEYS}
    model_type = fields.pop("model_type", None)
    try:
        config = AutoConfig.for_model(model_type, **fields)
    except (ValueError, TypeError, AttributeError) as error:
        fix = "give a config.json with a model_type that transformers knows"
        raise _model_error(f"{_one_line(error)}; {fix}") from None
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise _model_error(f"{model_type} is no causal language model in transformers; only those are trained here")
    if recipe.objective == "reward":
        # trl 1.16 reward_trainer.py: one label; the padding token that the last token of a sequence is found by.
        config.num_labels, config.get_text_config().pad_token_id = 1, 0
    if recipe.training.attn_implementation is not None:
        config._attn_implementation = recipe.training.attn_implementation
    return config


def config_fields(request: Request) -> dict[str, Any]:
    """The model's config.json: the pasted one, or the catalogue's."""
    if isinstance(request.model, dict):
        return dict(request.model)
    return dict(resolve_model(request.model).config)


def _model_error(message: str) -> InvalidRequestError:
    return InvalidRequestError("The request's model cannot be built.", [FieldProblem("model", message)])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
