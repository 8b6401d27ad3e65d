"""What PEFT adapts where `target_modules` is not named.

Source: peft 0.21.2, utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING; a test reads the installed
one beside it. Only decoders are listed.
"""

from planner.catalog.model_rows import model_catalog
from planner.errors import UnknownModelError

_Q_AND_V = ("q_proj", "v_proj")
DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "opt", "gptj", "gpt_neo", "llama", "llama4", "mistral", "mixtral", "stablelm", "gemma", "gemma2",
            "gemma3_text", "qwen2", "qwen3",
        ),
        _Q_AND_V,
    ),
    **dict.fromkeys(("bloom", "gpt_neox", "chatglm", "falcon"), ("query_key_value",)),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    "mpt": ("Wqkv",),
    "codegen": ("qkv_proj",),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "nemotron_h": ("q_proj", "k_proj", "v_proj", "o_proj"),
}  # fmt: skip


def default_targets(model: object, parameters: object = None) -> tuple[str, ...] | None:
    """The modules for a model of the catalogue or a config.json; None where PEFT asks for names, none where it has
    `parameters` to adapt (peft 0.21.2, tuners/lora/model.py _prepare_adapter_config).

    A model that only the hub knows is taken for one of the many with q_proj and v_proj: the plan says so, and names
    the model's modules where it has none of these.
    """
    found = _default_targets(model)
    return () if found is None and parameters else found


def _default_targets(model: object) -> tuple[str, ...] | None:
    if isinstance(model, dict):
        return DEFAULT_TARGETS.get(str(model.get("model_type")))
    try:
        row = model_catalog().find(str(model))
    except UnknownModelError:
        return _Q_AND_V
    return DEFAULT_TARGETS.get(row.model_type) if row else _Q_AND_V
