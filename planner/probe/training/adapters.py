"""The request's adapter as PEFT's own configuration of its method."""

from typing import Any

from peft import AdaLoraConfig, IA3Config, LoraConfig, OFTConfig, PeftConfig, VeraConfig

from planner.request.lora import Lora


def adapter_config(lora: Lora, task_type: str = "CAUSAL_LM") -> PeftConfig:
    """What `get_peft_model` is given."""
    return _CONFIGS[lora.peft_type](lora, _common(lora, task_type))


def _common(lora: Lora, task_type: str) -> dict[str, Any]:
    """What every method's configuration has."""
    targets = lora.target_modules
    return {
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "modules_to_save": None if lora.modules_to_save is None else list(lora.modules_to_save),
        "fan_in_fan_out": lora.fan_in_fan_out,
        "task_type": task_type,
    }


def _excluded(lora: Lora) -> str | list[str] | None:
    excluded = lora.exclude_modules
    return excluded if excluded is None or isinstance(excluded, str) else list(excluded)


def _layers(lora: Lora) -> dict[str, Any]:
    layers, counted = lora.layers_to_transform, lora.layers_pattern
    return {
        "layers_to_transform": list(layers) if isinstance(layers, tuple) else layers,
        "layers_pattern": list(counted) if isinstance(counted, tuple) else counted,
    }


def _lora(lora: Lora, common: dict[str, Any]) -> PeftConfig:
    return LoraConfig(
        **common,
        **_layers(lora),
        r=lora.r,
        lora_alpha=lora.lora_alpha,  # type: ignore[arg-type]  # peft says int and divides
        lora_dropout=lora.lora_dropout,
        exclude_modules=_excluded(lora),
        target_parameters=None if lora.target_parameters is None else list(lora.target_parameters),
        trainable_token_indices=None if lora.trainable_token_indices is None else list(lora.trainable_token_indices),
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        bias=lora.bias,
        init_lora_weights=lora.init_lora_weights,  # type: ignore[arg-type]  # checked by planner/request/initialisation
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        ensure_weight_tying=lora.ensure_weight_tying,
    )


def _adalora(lora: Lora, common: dict[str, Any]) -> PeftConfig:
    # A schedule that PEFT takes; its rank allocator is not called here, as no Trainer calls it.
    schedule: dict[str, Any] = {"init_r": lora.r, "target_r": lora.r, "total_step": 1000, "tinit": 1, "tfinal": 1}
    return AdaLoraConfig(
        **common, **_layers(lora), **schedule, exclude_modules=_excluded(lora), lora_dropout=lora.lora_dropout
    )


def _vera(lora: Lora, common: dict[str, Any]) -> PeftConfig:
    return VeraConfig(**common, **_layers(lora), r=lora.r, vera_dropout=lora.lora_dropout)


def _ia3(lora: Lora, common: dict[str, Any]) -> PeftConfig:
    inputs = None if lora.feedforward_modules is None else list(lora.feedforward_modules)
    return IA3Config(**common, exclude_modules=_excluded(lora), feedforward_modules=inputs)


def _oft(lora: Lora, common: dict[str, Any]) -> PeftConfig:
    return OFTConfig(
        **common, **_layers(lora), exclude_modules=_excluded(lora), oft_block_size=lora.oft_block_size
    )


_CONFIGS = {"LORA": _lora, "ADALORA": _adalora, "VERA": _vera, "IA3": _ia3, "OFT": _oft}
