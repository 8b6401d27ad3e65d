"""Files that say a part of a run, and files that say none: planned as far as they go, or named for what they are."""

from dataclasses import dataclass

from app.imports.effects import LAYERS, PARAMETERS, WHOLE, Effect, each
from app.imports.rules import Reading, Rule, Trainer, words


def _settle_adapter(reading: Reading) -> None:
    kind = reading.config.get("peft_type", "LORA")
    reading.use("peft_type", "method", "lora")
    if kind != "LORA":
        reading.leave_out("peft_type", Effect(f"{kind} is not planned; planned as LoRA", "as LoRA", saves=True))
    if reading.config.get("bias", "none") != "none":
        reading.leave_out("bias", Effect("trains biases beside the adapters; not in the plan"))
    why = "an adapter's file does not say how it was trained; planned"
    reading.assume("training.per_device_train_batch_size", 1, f"{why} with one sequence")
    reading.assume("training.max_length", 2048, f"{why} with 2,048 tokens")


ADAPTER = Trainer(
    id="adapter-config",
    name="an adapter's adapter_config.json",
    signature=words("peft_type base_model_name_or_path inference_mode fan_in_fan_out r lora_alpha target_modules"),
    rules=(
        Rule("base_model_name_or_path", "model"),
        Rule("r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("target_modules", "lora.target_modules"),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
    ),
    settle=_settle_adapter,
    handled=words("peft_type bias"),
    harmless=words(
        """
task_type inference_mode fan_in_fan_out auto_mapping revision init_lora_weights peft_version loftq_config
megatron_core corda_config eva_config arrow_config qalora_group_size ensure_weight_tying alpha_pattern
megatron_config lora_bias use_qalora alora_invocation_tokens
"""
    ),
    unmodelled={
        "modules_to_save": WHOLE,
        "target_parameters": PARAMETERS,
        "trainable_token_indices": Effect("trains rows of the embedding beside the adapters; not in the plan"),
        "rank_pattern": Effect("other ranks for some modules; planned with one"),
        **each("layers_to_transform layers_pattern layer_replication exclude_modules", LAYERS),
    },
)


@dataclass(frozen=True, slots=True)
class NotARun:
    """A file that says nothing of a model or its training. `certain`: one of these keys has to be there."""

    name: str
    certain: frozenset[str]
    signature: frozenset[str]
    advice: str


NOT_RUNS = (
    NotARun(
        "a DeepSpeed configuration",
        words("zero_optimization train_micro_batch_size_per_gpu zero_allow_untested_optimizer"),
        words("zero_optimization train_batch_size train_micro_batch_size_per_gpu gradient_clipping"),
        "it says how a run is spread, not what is trained; paste the trainer's own file, which names it",
    ),
    NotARun(
        "an accelerate configuration",
        words("compute_environment distributed_type"),
        words("compute_environment distributed_type num_processes num_machines machine_rank mixed_precision"),
        "it says what a run is started on, not what is trained; paste the trainer's own file",
    ),
    NotARun(
        "a tokenizer's configuration",
        words("tokenizer_class added_tokens_decoder"),
        words("tokenizer_class added_tokens_decoder model_max_length clean_up_tokenization_spaces"),
        "paste the config.json beside it, or a trainer's file",
    ),
    NotARun(
        "a generation configuration",
        words("_from_model_config top_p do_sample"),
        words("_from_model_config do_sample temperature top_p top_k transformers_version bos_token_id eos_token_id"),
        "paste the config.json beside it, or a trainer's file",
    ),
)  # fmt: skip
